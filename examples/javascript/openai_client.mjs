// Embed with OpenAI's own client for JavaScript. The Supabase access token is the API key.
//
//   npm ci --omit=dev && JWT_TOKEN=... node openai_client.mjs [http://127.0.0.1:8000]
import OpenAI from "openai";

const url = process.argv[2] ?? "http://127.0.0.1:8000";
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env.JWT_TOKEN });

const [model] = (await client.models.list()).data;
const answer = await client.embeddings.create({
  model: model.id,
  input: ["A man is playing a guitar", "Someone plays an instrument"],
});
for (const { index, embedding } of answer.data) {
  console.log(index, embedding.length, embedding.slice(0, 3));
}
console.log(answer.model, answer.usage.total_tokens);
