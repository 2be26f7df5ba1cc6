/** How the page looks. */

import { useId } from "react";

import { changeSettings, settings, type Theme } from "../state/settings";
import { useStore } from "../state/store";
import { Section } from "./Section";

const THEMES: { theme: Theme; label: string }[] = [
  { theme: "system", label: "System" },
  { theme: "light", label: "Light" },
  { theme: "dark", label: "Dark" },
];

export function PageSettings() {
  const chosen = useStore(settings, (all) => all.theme);
  const name = useId();
  return (
    <Section title="Appearance">
      <div role="radiogroup" aria-label="Theme" className="segments">
        {THEMES.map(({ theme, label }) => (
          <label key={theme}>
            <input
              type="radio"
              className="sr-only"
              name={name}
              checked={theme === chosen}
              onChange={() => changeSettings({ theme })}
            />
            <span>{label}</span>
          </label>
        ))}
      </div>
    </Section>
  );
}
