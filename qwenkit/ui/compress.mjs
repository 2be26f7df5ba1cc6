// Puts a Brotli and a gzip copy beside each file of a built page that they make smaller.
// Usage: node compress.mjs FOLDER

import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const TEXT = /\.(css|html|js|json|map|svg|txt|webmanifest)$/;
const SMALLEST = 1024;

const encoders = {
  ".br": (content) =>
    brotliCompressSync(content, {
      params: {
        [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
        [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
      },
    }),
  ".gz": (content) => gzipSync(content, { level: constants.Z_BEST_COMPRESSION }),
};

const folder = process.argv[2];
for (const name of readdirSync(folder, { recursive: true })) {
  if (!TEXT.test(name)) continue;
  const path = join(folder, name);
  const content = readFileSync(path);
  if (content.length < SMALLEST) continue;
  for (const [ending, encode] of Object.entries(encoders)) {
    const encoded = encode(content);
    if (encoded.length < content.length) writeFileSync(path + ending, encoded);
  }
}
