/** Buttons with words, and buttons with an icon alone. */

import type { ComponentProps, ReactNode } from "react";

import { classes } from "./classes";
import { Icon, type IconName } from "./Icon";

type ButtonProps = ComponentProps<"button"> & {
  kind?: "plain" | "outline" | "primary" | "danger";
  icon?: IconName;
  children: ReactNode;
};

export function Button({ kind = "plain", icon, className, children, ...rest }: ButtonProps) {
  const look = kind === "plain" ? null : `btn-${kind}`;
  return (
    <button type="button" className={classes("btn", look, className)} {...rest}>
      {icon && <Icon name={icon} size={16} />}
      {children}
    </button>
  );
}

type IconButtonProps = Omit<ComponentProps<"button">, "children" | "aria-label"> & {
  icon: IconName;
  /** Its accessible name, also shown when the pointer rests on it. */
  label: string;
  size?: number;
};

export function IconButton({ icon, label, size, className, ...rest }: IconButtonProps) {
  return (
    <button
      type="button"
      className={classes("icon-btn", className)}
      aria-label={label}
      title={label}
      {...rest}
    >
      <Icon name={icon} {...(size ? { size } : {})} />
    </button>
  );
}
