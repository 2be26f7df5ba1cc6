/** The conversations that a search finds, newest first. */

import { Button, Empty, Note, Spinner } from "../ui";
import { ThreadGroups } from "./ThreadGroups";
import type { RowActions } from "./ThreadRow";
import { useThreadSearch } from "./useThreads";

export function SearchResults({ query, actions }: { query: string; actions: RowActions }) {
  const search = useThreadSearch(query);
  if (search.error) {
    return (
      <Note kind="bad" action={<Button onClick={search.reload}>Try again</Button>}>
        {search.error}
      </Note>
    );
  }
  if (!search.data) return <Spinner label="Searching" />;
  const n = search.hits.length;
  const label = n === 1 ? "1 conversation" : `${n} conversations`;
  const excerpts = new Map(search.hits.map((hit) => [hit.summary.id, hit.excerpt]));
  return (
    <>
      <p role="status" className="sr-only">
        {label} found
      </p>
      {n === 0 ? (
        <Empty icon="search" title="Nothing found">
          No title and no message has “{query}”.
        </Empty>
      ) : (
        <ThreadGroups
          groups={[{ label, items: search.hits.map((hit) => hit.summary) }]}
          excerpts={excerpts}
          actions={actions}
        />
      )}
    </>
  );
}
