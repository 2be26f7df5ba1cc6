// A chat by LangChain's useStream alone: what its documentation shows, and no line for our server.
// The address names the server: ?api=http://127.0.0.1:8000/agent&key=…

import { useStream } from "@langchain/langgraph-sdk/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const address = new URLSearchParams(location.search);

function useKeptThread() {
  const [threadId, setThreadId] = useState(sessionStorage.getItem("thread"));
  const keep = (id) => {
    sessionStorage.setItem("thread", id);
    setThreadId(id);
  };
  return [threadId, keep];
}

const textOf = ({ content }) =>
  typeof content === "string" ? content : content.map((part) => part.text ?? "").join("");

function Chat() {
  const [threadId, onThreadId] = useKeptThread();
  const stream = useStream({
    apiUrl: address.get("api"),
    apiKey: address.get("key") ?? undefined,
    assistantId: "agent",
    threadId,
    onThreadId,
    messagesKey: "messages",
    fetchStateHistory: true,
    reconnectOnMount: true,
  });
  const options = { streamResumable: true, onDisconnect: "continue" };
  const say = (content, checkpoint) =>
    stream.submit({ messages: [{ type: "human", content }] }, { ...options, checkpoint });
  const decide = (type) =>
    stream.submit(undefined, { ...options, command: { resume: { decisions: [{ type }] } } });

  return (
    <main>
      <ol>
        {stream.messages.map((message) => (
          <Turn key={message.id} {...{ message, stream, say, options }} />
        ))}
      </ol>
      {stream.interrupt && (
        <p role="alert">
          {stream.interrupt.value.action_requests[0].name}
          <button onClick={() => decide("approve")}>Approve</button>
          <button onClick={() => decide("reject")}>Deny</button>
        </p>
      )}
      {stream.error && <p role="alert">{String(stream.error)}</p>}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          say(new FormData(event.target).get("message"));
        }}
      >
        <input name="message" aria-label="Message" />
        <button>Send</button>
      </form>
      <output>{stream.isLoading ? "writing" : "ready"}</output>
      <button onClick={() => stream.stop()}>Stop</button>
    </main>
  );
}

function Turn({ message, stream, say, options }) {
  const about = stream.getMessagesMetadata(message);
  const before = about?.firstSeenState?.parent_checkpoint;
  const branches = about?.branchOptions ?? [];
  const at = branches.indexOf(about?.branch);
  return (
    <li data-type={message.type}>
      <span>{textOf(message)}</span>
      {message.type === "human" && (
        <button onClick={() => say("changed", before)}>Edit</button>
      )}
      {message.type === "ai" && (
        <button onClick={() => stream.submit(undefined, { ...options, checkpoint: before })}>
          Regenerate
        </button>
      )}
      {branches.length > 1 && (
        <button disabled={at === 0} onClick={() => stream.setBranch(branches[at - 1])}>
          {`Branch ${at + 1} of ${branches.length}`}
        </button>
      )}
    </li>
  );
}

createRoot(document.getElementById("root")).render(<Chat />);
