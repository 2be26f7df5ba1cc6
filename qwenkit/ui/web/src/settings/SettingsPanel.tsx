/** Everything that a person can choose for the next message, and for this page. */

import { KeySettings } from "./KeySettings";
import { ModelPicker } from "./ModelPicker";
import { PageSettings } from "./PageSettings";
import { PromptSettings } from "./PromptSettings";
import { RatingSettings } from "./RatingSettings";
import { SamplingSettings } from "./SamplingSettings";
import { ThinkingSettings } from "./ThinkingSettings";
import { ToolSettings } from "./ToolSettings";

export function SettingsPanel() {
  return (
    <div className="px-5 pb-8">
      <p className="hint mt-0 mb-4">Changes hold from the next message on, and are kept in this browser.</p>
      <ModelPicker />
      <ThinkingSettings />
      <PromptSettings />
      <ToolSettings />
      <SamplingSettings />
      <RatingSettings />
      <PageSettings />
      <KeySettings />
    </div>
  );
}
