// Code that calls the gateway, for copying. Pure: the same base, model and client always give the same text.

// The key is never in it: it comes from the environment.
const KEY_VARIABLE = 'SPILLWAY_KEY';
const KEY_PLACEHOLDER = 'YOUR-KEY';
const AZURE_VERSION = '2024-10-21';

function exportOf(key = KEY_PLACEHOLDER) {
  return `export ${KEY_VARIABLE}='${key}'`;
}

// A text in Python, JavaScript and JSON alike.
const quoted = (text) => JSON.stringify(text);

// For a shell, between single quotation marks.
const forShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const isEmbedding = (model) => /embed/i.test(model);

const CLIENTS = [
  {
    id: 'python',
    name: 'Python: openai',
    install: 'pip install openai',
    chat: (base, model) => `import os
from openai import OpenAI

client = OpenAI(base_url=${quoted(`${base}/v1`)}, api_key=os.environ["${KEY_VARIABLE}"])
answer = client.chat.completions.create(
    model=${quoted(model)},
    messages=[{"role": "user", "content": "Say hello."}],
)
print(answer.choices[0].message.content)
`,
    embedding: (base, model) => `import os
from openai import OpenAI

client = OpenAI(base_url=${quoted(`${base}/v1`)}, api_key=os.environ["${KEY_VARIABLE}"])
answer = client.embeddings.create(model=${quoted(model)}, input="Say hello.")
print(len(answer.data[0].embedding))
`,
  },
  {
    id: 'node',
    name: 'Node: openai',
    install: 'npm install openai',
    chat: (base, model) => `import OpenAI from 'openai';

const client = new OpenAI({ baseURL: ${quoted(`${base}/v1`)}, apiKey: process.env.${KEY_VARIABLE} });
const answer = await client.chat.completions.create({
  model: ${quoted(model)},
  messages: [{ role: 'user', content: 'Say hello.' }],
});
console.log(answer.choices[0].message.content);
`,
    embedding: (base, model) => `import OpenAI from 'openai';

const client = new OpenAI({ baseURL: ${quoted(`${base}/v1`)}, apiKey: process.env.${KEY_VARIABLE} });
const answer = await client.embeddings.create({ model: ${quoted(model)}, input: 'Say hello.' });
console.log(answer.data[0].embedding.length);
`,
  },
  {
    id: 'azure',
    name: 'Python: AzureOpenAI',
    install: 'pip install openai',
    chat: (base, model) => `import os
from openai import AzureOpenAI

client = AzureOpenAI(
    azure_endpoint=${quoted(base)},
    api_key=os.environ["${KEY_VARIABLE}"],
    api_version="${AZURE_VERSION}",
)
answer = client.chat.completions.create(
    model=${quoted(model)},
    messages=[{"role": "user", "content": "Say hello."}],
)
print(answer.choices[0].message.content)
`,
    embedding: (base, model) => `import os
from openai import AzureOpenAI

client = AzureOpenAI(
    azure_endpoint=${quoted(base)},
    api_key=os.environ["${KEY_VARIABLE}"],
    api_version="${AZURE_VERSION}",
)
answer = client.embeddings.create(model=${quoted(model)}, input="Say hello.")
print(len(answer.data[0].embedding))
`,
  },
  {
    id: 'langchain',
    name: 'LangChain',
    install: 'pip install langchain-openai',
    chat: (base, model) => `import os
from langchain_openai import ChatOpenAI

model = ChatOpenAI(base_url=${quoted(`${base}/v1`)}, api_key=os.environ["${KEY_VARIABLE}"], model=${quoted(model)})
print(model.invoke("Say hello.").content)
`,
    embedding: (base, model) => `import os
from langchain_openai import OpenAIEmbeddings

model = OpenAIEmbeddings(
    base_url=${quoted(`${base}/v1`)},
    api_key=os.environ["${KEY_VARIABLE}"],
    model=${quoted(model)},
    check_embedding_ctx_length=False,
)
print(len(model.embed_query("Say hello.")))
`,
  },
  {
    id: 'curl',
    name: 'curl',
    install: '',
    chat: (base, model) => `curl --fail-with-body ${forShell(`${base}/v1/chat/completions`)} \\
  -H "Authorization: Bearer $${KEY_VARIABLE}" \\
  -H 'Content-Type: application/json' \\
  -d ${forShell(JSON.stringify({ model, messages: [{ role: 'user', content: 'Say hello.' }] }))}
`,
    embedding: (base, model) => `curl --fail-with-body ${forShell(`${base}/v1/embeddings`)} \\
  -H "Authorization: Bearer $${KEY_VARIABLE}" \\
  -H 'Content-Type: application/json' \\
  -d ${forShell(JSON.stringify({ model, input: 'Say hello.' }))}
`,
  },
];

function snippetOf(client, base, model) {
  return isEmbedding(model) ? client.embedding(base, model) : client.chat(base, model);
}
