/** The page's own controls, in one place to import from. */

export { Button, IconButton } from "./Button";
export { classes } from "./classes";
export { ErrorBoundary } from "./ErrorBoundary";
export { SelectField, Slider, Switch, TextArea, TextField } from "./Field";
export { Icon, type IconName } from "./Icon";
export { Dialog, Drawer } from "./Modal";
export { Empty, Note, Spinner } from "./Note";
export { Question } from "./Question";
export { Toasts } from "./Toasts";
export { type Async, useAsync } from "./useAsync";
export { useFocusBack } from "./useFocusBack";
