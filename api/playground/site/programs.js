// A call as a program that prints the similarities. No program here has a token in it.

/** By language: from the address of /batch-embed and a body of strings and numbers to a program. */
export const PROGRAMS = { curl, python, typescript };

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(address, body) {
  return [
    `curl -s ${quoted(address)} \\`,
    '  -H "Authorization: Bearer $JWT_TOKEN" \\',
    '  -H "Content-Type: application/json" \\',
    `  -d ${quoted(JSON.stringify(body))}`,
  ].join("\n");
}

/** JSON of strings and numbers, over several lines, is Python too. */
function python(address, body) {
  return `import os

import httpx
import numpy as np

answer = httpx.post(
    ${JSON.stringify(address)},
    headers={"Authorization": f"Bearer {os.environ['JWT_TOKEN']}"},
    json=${indented(body, 4, 4)},
    timeout=60,
)
answer.raise_for_status()
vectors = np.array(answer.json()["embeddings"], np.float32)
print(vectors @ vectors.T)`;
}

function typescript(address, body) {
  return `const response = await fetch(${JSON.stringify(address)}, {
  method: "POST",
  headers: {
    Authorization: \`Bearer \${process.env.JWT_TOKEN}\`,
    "Content-Type": "application/json",
  },
  body: JSON.stringify(${indented(body, 2, 2)}),
});
if (!response.ok) throw new Error(await response.text());
const { embeddings }: { embeddings: number[][] } = await response.json();
const cosine = (a: number[], b: number[]) => a.reduce((sum, x, i) => sum + x * b[i], 0);
console.log(embeddings.map((a) => embeddings.map((b) => cosine(a, b))));`;
}

function indented(body, step, first) {
  return JSON.stringify(body, null, step).replaceAll("\n", `\n${" ".repeat(first)}`);
}
