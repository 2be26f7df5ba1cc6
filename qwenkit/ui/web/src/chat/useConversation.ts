/** One conversation: its messages as they come, its branches, and everything a person can do to it.

Built on assistant-ui's LangGraph hook, which streams, joins and aborts; branches over checkpoints, going on
with a run after a reload, and comparisons are done here.
*/

import { useLangGraphMessages } from "@assistant-ui/react-langgraph";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import { describeError } from "../api/http";
import { nameThread } from "../state/route";
import { threadsChanged } from "../state/threads";
import { type Approval, approvalsOf, complaintOf, type Decision } from "./approvals";
import type { ChatMessage } from "./chunks";
import { type StreamListener, toRuntimeEvents } from "./events";
import { checkpointOf, MessageTree, messagesOf, questionOf, type Snapshot } from "./history";
import type { RunPlan } from "./plan";
import { activeRun, cancelRun, createThread, keepBranch, readHistory, streamRun } from "./runs";
import { answerAt, answerFrom } from "./turns";
import { hasAll, type Unsent, withIds, written } from "./unsent";

/** Two answers to one message, side by side. The shown branch has the second one. */
export interface Comparison {
  /** Where both answers begin in the conversation. */
  index: number;
  first: ChatMessage[];
  /** What the person reads above the second answer. */
  title: string;
}

export interface Conversation {
  threadId: string | null;
  messages: ChatMessage[];
  tree: MessageTree;
  running: boolean;
  loading: boolean;
  /** Why the last run, or loading, failed. */
  error: string | null;
  approvals: Approval[];
  complaint: string | null;
  comparison: Comparison | null;
  send(text: string): Promise<void>;
  /** Writes a person's message anew, and lets the model answer it. */
  edit(messageId: string, text: string): Promise<void>;
  /** Lets the model answer anew; `model` is another one than the chosen one. */
  regenerate(messageId: string, model?: string | null): Promise<void>;
  /** Lets the model answer anew, and shows both answers side by side. */
  compare(messageId: string, title: string, model?: string | null): Promise<void>;
  /** Goes on with one of the two answers. */
  endComparison(keepFirst: boolean): Promise<void>;
  /** Lets the thread go on from where a run failed; what never arrived is sent again. */
  goOn(): Promise<void>;
  decide(decisions: Decision[]): Promise<void>;
  show(snapshot: Snapshot): void;
  stop(): void;
  reload(): Promise<void>;
}

type Sent = Parameters<typeof withIds>[0];

export function useConversation(opened: string | null): Conversation {
  const threadId = useRef(opened);
  const runId = useRef<string | null>(null);
  const stopping = useRef(false);
  const loads = useRef(0);
  const mounted = useRef(false);
  const shown = useRef<Snapshot | null>(null);
  const [snapshots, setSnapshots] = useState<Snapshot[]>([]);
  const [running, setRunning] = useState(false);
  const [loading, setLoading] = useState(opened !== null);
  const [error, setError] = useState<string | null>(null);
  const [comparison, setComparison] = useState<Comparison | null>(null);
  const [unsent, setUnsent] = useState<Unsent | null>(null);
  const tree = useMemo(() => new MessageTree(snapshots), [snapshots]);

  const listener = useMemo<StreamListener>(
    () => ({
      onRun(id) {
        runId.current = id;
        if (stopping.current && threadId.current) {
          cancelRun(threadId.current, id).catch((cause: unknown) => setError(describeError(cause)));
        }
      },
      onError: setError,
    }),
    [],
  );

  const hook = useLangGraphMessages<ChatMessage>({
    stream: useCallback(
      async (messages, config) => {
        threadId.current ??= await begin(mounted);
        const plan = (config.runConfig ?? {}) as RunPlan;
        const events = streamRun(threadId.current, messages, plan, config.abortSignal);
        return toRuntimeEvents(events, listener);
      },
      [listener],
    ),
  });
  const { messages, interrupt, sendMessage, setMessages, setInterrupt, cancel } = hook;

  const show = useCallback(
    (snapshot: Snapshot | null) => {
      shown.current = snapshot;
      setMessages((snapshot ? messagesOf(snapshot) : []) as ChatMessage[]);
      setInterrupt(questionOf(snapshot));
    },
    [setMessages, setInterrupt],
  );

  const refresh = useCallback(async () => {
    if (!threadId.current) return;
    const found = await readHistory(threadId.current);
    setSnapshots(found);
    setUnsent(null);
    show(found[0] ?? null);
  }, [show]);

  /** Shows what the server has; what it lacks goes on being shown, and waits to be sent again. */
  const settle = useCallback(
    async (sent: Unsent) => {
      setUnsent(sent);
      if (!threadId.current) return false;
      const found = await readHistory(threadId.current);
      setSnapshots(found);
      if (!hasAll(found[0] ? messagesOf(found[0]) : [], sent.messages)) return false;
      setUnsent(null);
      show(found[0] ?? null);
      return true;
    },
    [show],
  );

  const run = useCallback(
    async (sent: Sent, plan: RunPlan) => {
      const messages = withIds(sent);
      let failed = false;
      runId.current = null;
      stopping.current = false;
      setError(null);
      setRunning(true);
      try {
        await sendMessage(messages, { runConfig: plan });
      } catch (cause) {
        failed = true;
        setError(describeError(cause));
      }
      if (!mounted.current) return !failed;
      await settle({ messages, plan }).catch((cause: unknown) => setError(describeError(cause)));
      setRunning(false);
      threadsChanged();
      return !failed;
    },
    [sendMessage, settle],
  );

  const load = useCallback(async () => {
    if (!threadId.current) return;
    const mine = ++loads.current;
    setLoading(true);
    setError(null);
    try {
      const [busy] = await Promise.all([activeRun(threadId.current), refresh()]);
      if (mine !== loads.current) return;
      setLoading(false);
      if (busy) await run([], { join: busy });
    } catch (cause) {
      setLoading(false);
      setError(describeError(cause));
    }
  }, [refresh, run]);

  useEffect(() => {
    mounted.current = true;
    void load();
    return () => {
      mounted.current = false;
      loads.current++;
    };
  }, [load]);

  /** Where a run goes on from, if that is not where the thread is. */
  const place = () => {
    const at = shown.current;
    return at && at !== tree.newest ? checkpointOf(at) : null;
  };

  const fork = async (index: number, sent: Sent, plan: RunPlan) => {
    const checkpointId = tree.before(messages, index);
    setMessages(messages.slice(0, index));
    setInterrupt(undefined);
    return run(sent, { ...plan, checkpointId });
  };

  const goOn = async () => {
    if (!unsent) return run([], { checkpointId: place() });
    try {
      if (await settle(unsent)) return load();
    } catch (cause) {
      return setError(describeError(cause));
    }
    return run(unsent.messages, unsent.plan);
  };

  const regenerate = async (messageId: string, model?: string | null) => {
    const answer = answerAt(messages, messageId);
    return answer && fork(answer.index, [], { ...(model === undefined ? {} : { model }) });
  };

  return {
    threadId: threadId.current,
    messages,
    tree,
    running,
    loading,
    error,
    approvals: useMemo(
      () => (running ? [] : approvalsOf(interrupt?.value, messages)),
      [running, interrupt, messages],
    ),
    complaint: complaintOf(interrupt?.value),
    comparison,
    send: async (text) => {
      setComparison(null);
      const plan = unsent?.plan ?? { checkpointId: place() };
      await run([...(unsent?.messages ?? []), written(text)], plan);
    },
    edit: async (messageId, text) => {
      const index = messages.findIndex((message) => message.id === messageId);
      setComparison(null);
      if (index < 0) return;
      if (unsent?.messages.some(({ id }) => id === messageId)) {
        setMessages(messages.slice(0, index));
        await run([written(text)], unsent.plan);
      } else {
        await fork(index, [written(text)], {});
      }
    },
    regenerate: async (messageId, model) => {
      setComparison(null);
      await regenerate(messageId, model);
    },
    compare: async (messageId, title, model) => {
      const answer = answerAt(messages, messageId);
      if (!answer) return;
      setComparison({ index: answer.index, first: answer.messages, title });
      if (!(await regenerate(messageId, model))) setComparison(null);
    },
    endComparison: async (keepFirst) => {
      setComparison(null);
      if (!comparison || !keepFirst) return;
      const kept = [...messages.slice(0, comparison.index), ...comparison.first];
      const branch = tree.branchOf(kept, comparison.index + 1);
      show(branch);
      const checkpointId = branch && checkpointOf(branch);
      if (!threadId.current || !checkpointId) return;
      try {
        await keepBranch(threadId.current, checkpointId);
        await refresh();
      } catch (cause) {
        setError(describeError(cause));
      }
    },
    goOn: async () => void (await goOn()),
    decide: async (decisions) => {
      await run([], { resume: { decisions }, checkpointId: place() });
    },
    show: (snapshot) => {
      setComparison(null);
      show(snapshot);
    },
    stop: () => {
      stopping.current = true;
      if (!threadId.current || !runId.current) return;
      cancelRun(threadId.current, runId.current).catch(cancel);
    },
    reload: load,
  };
}

/** A new thread; the address names it unless the person looks at another one by now. */
async function begin(shown: { current: boolean }): Promise<string> {
  const id = await createThread();
  if (shown.current) nameThread(id);
  threadsChanged();
  return id;
}

/** The second answer of a comparison, as far as it has come. */
export const secondAnswer = (messages: ChatMessage[], { index }: Comparison): ChatMessage[] =>
  answerFrom(messages, index);
