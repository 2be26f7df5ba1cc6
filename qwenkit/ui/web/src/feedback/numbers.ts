/** Numbers as people read them. Pure. */

const COUNT = new Intl.NumberFormat("en");

export const count = (n: number): string => COUNT.format(n);

/** `62 %`; a dash where there is none. */
export const percent = (share: number | null): string =>
  share === null ? "–" : `${Math.round(share * 100)} %`;

export const decimal = (value: number | null): string => (value === null ? "–" : value.toFixed(1));
