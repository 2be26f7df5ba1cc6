/** MCP servers and their tools. Adding and removing needs the admin role. */

import { getJson, remove, sendJson } from "./http";
import type { McpServer, McpToolsOfServer, NewMcpServer } from "./types";

const SERVERS = "/admin/mcp/servers";

/** What every user may see: names, states and tools. */
export async function listTools(): Promise<McpToolsOfServer[]> {
  return (await getJson<{ servers: McpToolsOfServer[] }>("/v1/mcp/tools")).servers;
}

export async function listServers(): Promise<McpServer[]> {
  return (await getJson<{ servers: McpServer[] }>(SERVERS)).servers;
}

export const addServer = (server: NewMcpServer): Promise<McpServer> =>
  sendJson<McpServer>("POST", SERVERS, server);

/** Connects without keeping the server. */
export const testServer = (server: NewMcpServer): Promise<McpServer> =>
  sendJson<McpServer>("POST", `${SERVERS}/test`, server);

/** Lists a kept server's tools anew. */
export const checkServer = (name: string): Promise<McpServer> =>
  sendJson<McpServer>("POST", `${SERVERS}/${encodeURIComponent(name)}/test`, {});

export const removeServer = (name: string): Promise<void> =>
  remove(`${SERVERS}/${encodeURIComponent(name)}`);
