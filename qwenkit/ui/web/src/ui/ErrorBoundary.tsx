/** Keeps a part of the page that fails from taking the rest with it. */

import { Component, type ReactNode } from "react";

import { Button } from "./Button";
import { Note } from "./Note";

interface ErrorBoundaryProps {
  children: ReactNode;
  /** Shown in the place of what failed; without it, a note that says so. */
  fallback?: ReactNode;
}

export class ErrorBoundary extends Component<ErrorBoundaryProps, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    if (this.props.fallback !== undefined) return this.props.fallback;
    return (
      <div className="p-4">
        <Note
          kind="bad"
          action={<Button onClick={() => location.reload()}>Reload the page</Button>}
        >
          This part of the page failed. The server may have been updated meanwhile.
        </Note>
      </div>
    );
  }
}
