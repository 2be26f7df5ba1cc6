/** How the page is built: into ../dist, in pieces that load when they are needed. */

import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv, type Plugin } from "vite";

const ROUTES = ["/agent", "/v1", "/admin", "/metrics", "/healthz", "/readyz"];

/** KaTeX has its fonts three times; every browser that runs this page takes woff2. */
const onlyWoff2: Plugin = {
  name: "only-woff2",
  enforce: "pre",
  transform(code, id) {
    if (!id.includes("katex") || !id.includes(".css")) return null;
    return code.replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\("(?:woff|truetype)"\)/g, "");
  },
};

/** Packages that only define things, so that what the page does not use of them is left out. */
const PURE = /node_modules\/(@langchain\/(core|langgraph-sdk)|langsmith)\//;

export default defineConfig(({ mode }) => {
  const { QWENKIT_URL = "http://127.0.0.1:8000" } = loadEnv(mode, ".", "QWENKIT_");
  return {
    plugins: [onlyWoff2, react(), tailwindcss()],
    build: {
      outDir: "../dist",
      emptyOutDir: true,
      target: "es2023",
      chunkSizeWarningLimit: 1000,
      rolldownOptions: { treeshake: { moduleSideEffects: (id) => !PURE.test(id) } },
    },
    server: { proxy: Object.fromEntries(ROUTES.map((route) => [route, QWENKIT_URL])) },
  };
});
