/** Where an MCP server is and how it is spoken to. */

import { NumberField } from "../settings/NumberField";
import { SelectField, TextField } from "../ui";
import type { Auth, Draft, fieldOf } from "./draft";

interface FieldsProps {
  draft: Draft;
  onChange: (changes: Partial<Draft>) => void;
  errorAt: (field: NonNullable<ReturnType<typeof fieldOf>>) => string | null;
}

const PLAIN = { spellCheck: false, autoComplete: "off", autoCapitalize: "off" } as const;

export function ConnectionFields({ draft, onChange, errorAt }: FieldsProps) {
  return (
    <>
      <TextField
        {...PLAIN}
        label="Server's name"
        placeholder="issues"
        required
        maxLength={64}
        value={draft.name}
        error={errorAt("name")}
        onChange={(event) => onChange({ name: event.target.value })}
      />
      <TextField
        {...PLAIN}
        label="URL"
        hint="On the public internet, or in a network of MCP_ALLOWED_NETWORKS."
        placeholder="https://mcp.example.org/mcp"
        required
        inputMode="url"
        value={draft.url}
        error={errorAt("url")}
        onChange={(event) => onChange({ url: event.target.value })}
      />
      <AuthFields {...{ draft, onChange, errorAt }} />
      <details className="fold">
        <summary>Transport and timeout</summary>
        <div className="flex flex-col gap-3.5 pt-2">
          <SelectField
            label="Transport"
            value={draft.type}
            onChange={(event) => onChange({ type: event.target.value as Draft["type"] })}
          >
            <option value="">By the URL</option>
            <option value="http">Streamable HTTP</option>
            <option value="sse">SSE (older servers)</option>
          </SelectField>
          <NumberField
            label="Timeout of a call, in seconds"
            hint={errorAt("timeout") ?? undefined}
            placeholder="60"
            min={1}
            max={3600}
            value={draft.timeout}
            onChange={(timeout) => onChange({ timeout })}
          />
        </div>
      </details>
    </>
  );
}

function AuthFields({ draft, onChange, errorAt }: FieldsProps) {
  return (
    <>
      <SelectField
        label="Authorization"
        value={draft.auth}
        error={draft.auth === "none" ? errorAt("headers") : null}
        onChange={(event) => onChange({ auth: event.target.value as Auth })}
      >
        <option value="none">None</option>
        <option value="bearer">Bearer token</option>
        <option value="header">Another header</option>
      </SelectField>
      {draft.auth === "bearer" && (
        <TextField
          {...PLAIN}
          label="Token"
          hint="Kept by the server, where only its owner can read it."
          type="password"
          value={draft.token}
          error={errorAt("headers")}
          onChange={(event) => onChange({ token: event.target.value })}
        />
      )}
      {draft.auth === "header" && (
        <>
          <TextField
            {...PLAIN}
            label="Header's name"
            placeholder="X-Api-Key"
            value={draft.headerName}
            error={errorAt("headers")}
            onChange={(event) => onChange({ headerName: event.target.value })}
          />
          <TextField
            {...PLAIN}
            label="Header's value"
            type="password"
            value={draft.headerValue}
            onChange={(event) => onChange({ headerValue: event.target.value })}
          />
        </>
      )}
    </>
  );
}
