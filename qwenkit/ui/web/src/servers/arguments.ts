/** A tool's arguments, read from its JSON schema. Pure. */

export interface Argument {
  name: string;
  required: boolean;
}

/** Those that must be given first. */
export function argumentsOf(schema: Record<string, unknown>): Argument[] {
  const properties = schema["properties"];
  if (typeof properties !== "object" || properties === null) return [];
  const required = Array.isArray(schema["required"]) ? schema["required"] : [];
  const all = Object.keys(properties).map((name) => ({ name, required: required.includes(name) }));
  return [...all.filter((each) => each.required), ...all.filter((each) => !each.required)];
}
