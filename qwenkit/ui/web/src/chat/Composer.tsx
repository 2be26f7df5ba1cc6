/** Where messages are written, with the choices that change from message to message. */

import { AuiIf, ComposerPrimitive } from "@assistant-ui/react";

import { useTouch } from "../state/screen";
import { changeSettings, settings } from "../state/settings";
import { useStore } from "../state/store";
import { Icon } from "../ui";
import { ContextMeter } from "./ContextMeter";
import { ModelPicker } from "./ModelPicker";

export function Composer() {
  const calls = !useTouch();
  return (
    <ComposerPrimitive.Root className="composer">
      <ComposerPrimitive.Input
        data-composer
        className="composer-input"
        aria-label="Message"
        placeholder="Ask anything"
        rows={1}
        maxRows={10}
        autoFocus={calls}
        unstable_focusOnRunStart={calls}
        unstable_focusOnScrollToBottom={calls}
        unstable_focusOnThreadSwitched={calls}
        unstable_insertNewlineOnTouchEnter
      />
      <div className="flex items-center gap-1.5">
        <ThinkingToggle />
        <ModelPicker />
        <span className="flex-1" />
        <ContextMeter />
        <SendOrStop />
      </div>
    </ComposerPrimitive.Root>
  );
}

function ThinkingToggle() {
  const thinking = useStore(settings, (chosen) => chosen.thinking);
  return (
    <button
      type="button"
      className="chip"
      aria-pressed={thinking}
      title={thinking ? "The model thinks before it answers" : "The model answers at once"}
      onClick={() => changeSettings({ thinking: !thinking })}
    >
      <Icon name="thought" size={16} />
      Thinking
    </button>
  );
}

function SendOrStop() {
  return (
    <>
      <AuiIf condition={(state) => state.thread.isRunning}>
        <ComposerPrimitive.Cancel className="send" aria-label="Stop" title="Stop">
          <span className="size-3 rounded-[3px] bg-current" />
        </ComposerPrimitive.Cancel>
      </AuiIf>
      <AuiIf condition={(state) => !state.thread.isRunning}>
        <ComposerPrimitive.Send className="send" aria-label="Send" title="Send">
          <Icon name="send" size={20} />
        </ComposerPrimitive.Send>
      </AuiIf>
    </>
  );
}
