/** Gathers the decisions on the calls that a run asks about; the run goes on when all are there. */

import { createStore, useStore } from "../state/store";
import type { Approval, Decision } from "./approvals";
import { useChat } from "./context";

/** By the call's id; calls have ids of their own, so that old ones are in nobody's way. */
const decisions = createStore<Record<string, Decision>>({});

export function useDecisions({ callId }: Approval) {
  const { approvals, decide: answer } = useChat().conversation;
  const made = useStore(decisions);
  const waiting = approvals.filter((each) => !made[each.callId]).length;
  const decide = (decision: Decision) => {
    const all = { ...decisions.get(), [callId]: decision };
    const listed = approvals.map((each) => all[each.callId]);
    decisions.set(all);
    if (listed.every((each) => each !== undefined)) void answer(listed);
  };
  const takeBack = () => {
    const { [callId]: _gone, ...rest } = decisions.get();
    decisions.set(rest);
  };
  return { decided: made[callId] ?? null, decide, takeBack, waiting };
}
