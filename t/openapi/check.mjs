// Copyright (C) the agntkey authors
// SPDX-License-Identifier: BSD-2-Clause
//
// Holds docs/openapi.json against what the API has answered.
//
//     node check.mjs <openapi.json> <exchanges.json>
//
// The second file is an array of
//
//     { operation: "POST /keys", status: 201, type, headers, text,
//       query: { name: value }, body, conforms }
//
// type, headers and text being the answer's, query and body the request's.
// "conforms" says whether the body is one that the document allows; null: not
// to be looked at.  Writes a JSON array of [passed, title, details].

import { readFileSync, writeFileSync } from "node:fs";

import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const [documentFile, exchangesFile] = process.argv.slice(2);
const doc = JSON.parse(readFileSync(documentFile, "utf8"));
const exchanges = JSON.parse(readFileSync(exchangesFile, "utf8"));

const results = [];

function result(errors, title) {
  results.push([errors.length === 0, title, errors.join("\n")]);
}

function finish() {
  writeFileSync(1, JSON.stringify(results));
  process.exit(0);
}


// --- the document

const verdict = await new Validator().validate(structuredClone(doc));

result(verdict.valid ? [] : [JSON.stringify(verdict.errors, null, 2)],
       "the document is valid");

if (!verdict.valid) {
  finish();
}

const METHODS = ["get", "put", "post", "delete", "options", "head", "patch",
                 "trace"];

function escape(name) {
  return name.replace(/~/g, "~0").replace(/\//g, "~1");
}

function at(pointer) {
  let node = doc;

  for (const part of pointer.split("/").slice(1)) {
    node = node?.[part.replace(/~1/g, "/").replace(/~0/g, "~")];
  }

  if (node === undefined) {
    throw new Error(`nothing at ${pointer}`);
  }

  return node;
}

// A place in the document, with the references of OpenAPI followed; those of
// schemas are left to ajv.

function follow(pointer) {
  let node = at(pointer);

  while (node.$ref !== undefined) {
    pointer = node.$ref.slice(1);
    node = at(pointer);
  }

  return { node, pointer };
}

const ajv = new Ajv2020({ strict: false, allErrors: true,
                          validateFormats: true });
addFormats(ajv);
ajv.addSchema(doc, "openapi");

const compiled = new Map();

// A closed schema is one that takes no members but those it names.

function validate(pointer, value, closed = false) {
  const id = pointer + closed;

  if (!compiled.has(id)) {
    const uri = `openapi#${encodeURI(pointer)}`;
    compiled.set(id, ajv.compile(
      closed ? { $ref: uri, unevaluatedProperties: false } : { $ref: uri }));
  }

  const check = compiled.get(id);

  return check(value)
    ? []
    : check.errors.map((e) => `${e.instancePath || "/"} ${e.message} `
                              + JSON.stringify(e.params));
}

// Every operation: its parameters, its body and its responses, by place.

const operations = new Map();

for (const path of Object.keys(doc.paths)) {
  const here = `/paths/${escape(path)}`;

  for (const method of METHODS.filter((m) => at(here)[m])) {
    const place = `${here}/${method}`;
    const operation = at(place);
    const parameters = [here, place].flatMap((p) =>
      (at(p).parameters ?? []).map((_, i) => follow(`${p}/parameters/${i}`)));

    operations.set(`${method.toUpperCase()} ${path}`, {
      parameters,
      body: operation.requestBody && follow(`${place}/requestBody`),
      responses: new Map(Object.keys(operation.responses).map((status) =>
        [status, follow(`${place}/responses/${status}`)])),
      seen: new Set(),
    });
  }
}

// The codes that a problem may have, as far as its schema lists them.

function codesOf(pointer) {
  const schema = at(pointer);
  const code = schema.properties?.code;
  const here = code?.enum ?? (code?.const && [code.const]);

  if (here) {
    return here;
  }

  return (schema.allOf ?? []).flatMap((_, i) =>
    codesOf(`${pointer}/allOf/${i}`))
    .concat(schema.$ref && !schema.$ref.endsWith("/Problem")
      ? codesOf(schema.$ref.slice(1)) : []);
}

// Whatever has a schema and examples.

function examples(pointer) {
  const { node, pointer: place } = follow(pointer);
  const errors = [];

  if (node.schema === undefined) {
    return errors;
  }

  const values = Object.keys(node.examples ?? {}).map((name) =>
    [name, follow(`${place}/examples/${name}`).node.value]);

  if (node.example !== undefined) {
    values.push(["example", node.example]);
  }

  for (const [name, value] of values) {
    errors.push(...validate(`${place}/schema`, value, typeof value === "object")
      .map((e) => `${place}, ${name}: ${e}`));
  }

  return errors;
}

function allExamples() {
  const errors = [];

  for (const { parameters, body, responses } of operations.values()) {
    for (const p of parameters) {
      errors.push(...examples(p.pointer));
    }

    for (const { node, pointer } of [body, ...responses.values()]
      .filter(Boolean)) {
      for (const kind of ["content", "headers"]) {
        for (const name of Object.keys(node[kind] ?? {})) {
          errors.push(...examples(`${pointer}/${kind}/${escape(name)}`));
        }
      }
    }
  }

  return errors;
}


// --- one exchange

function answer(exchange, response) {
  const errors = [];
  const content = response.node.content ?? {};
  const type = exchange.type ?? "(none)";

  if (!content[type]) {
    return [`type ${type}, not ${Object.keys(content)}`];
  }

  for (const name of Object.keys(response.node.headers ?? {})) {
    const header = follow(`${response.pointer}/headers/${name}`);
    const text = exchange.headers[name.toLowerCase()];

    if (text === undefined) {
      errors.push(`no header ${name}`);
      continue;
    }

    errors.push(...validate(`${header.pointer}/schema`,
                            header.node.schema.type === "integer"
                              ? Number(text) : text)
      .map((e) => `${name}: ${e}`));
  }

  let body;

  try {
    body = JSON.parse(exchange.text);
  } catch (e) {
    return [...errors, `no JSON: ${e.message}`];
  }

  const schema = `${response.pointer}/content/${escape(type)}/schema`;

  // one that names no members takes all
  errors.push(...validate(schema, body, Object.keys(at(schema)).length > 1
                                        || at(schema).$ref !== undefined));

  if (body.status !== undefined && body.code !== undefined
      && body.status !== exchange.status)
  {
    errors.push(`status ${body.status} in the body`);
  }

  // examples show what comes: the title of a type is always the same one
  const example = doc.components.examples[body.code]?.value;

  if (exchange.status >= 400 && body.title !== example?.title) {
    errors.push(`title "${body.title}", not "${example?.title}"`);
  }

  return errors;
}

function request(exchange, operation) {
  const errors = [];
  const good = exchange.status < 300;

  for (const [name, value] of Object.entries(exchange.query ?? {})) {
    const parameter = operation.parameters.find((p) =>
      p.node.in === "query" && p.node.name === name);

    if (parameter === undefined) {
      if (good) {
        errors.push(`parameter ${name} is not documented`);
      }
      continue;
    }

    const bad = validate(`${parameter.pointer}/schema`,
                         parameter.node.schema.type === "integer"
                           ? Number(value) : value);

    if (good && bad.length) {
      errors.push(...bad.map((e) => `parameter ${name}: ${e}`));
    }
  }

  if (exchange.conforms === null || exchange.conforms === undefined) {
    return errors;
  }

  if (exchange.body === null) {
    const needed = operation.body?.node.required === true;

    if (needed === exchange.conforms) {
      errors.push(`a body is${needed ? "" : " not"} required`);
    }

    return errors;
  }

  const bad = validate(
    `${operation.body.pointer}/content/application~1json/schema`,
    exchange.body);

  if (exchange.conforms && bad.length) {
    errors.push(...bad.map((e) => `body: ${e}`));
  }

  if (!exchange.conforms && !bad.length) {
    errors.push("the document allows this body");
  }

  return errors;
}

function check(exchange) {
  const operation = operations.get(exchange.operation);

  if (operation === undefined) {
    return ["no such operation"];
  }

  const response = operation.responses.get(String(exchange.status));

  if (response === undefined) {
    return [`status ${exchange.status} is not documented`];
  }

  const errors = [...answer(exchange, response),
                  ...request(exchange, operation)];

  if (errors.length === 0) {
    operation.seen.add(String(exchange.status));

    if (exchange.status >= 400) {
      operation.seen.add(
        `${exchange.status} ${JSON.parse(exchange.text).code}`);
    }
  }

  return errors;
}


// --- all of it

result(/^3\.1\.\d+$/.test(doc.openapi) ? [] : [doc.openapi],
       "the document is OpenAPI 3.1");
result(allExamples(), "the document's examples are as it says");

for (const exchange of exchanges) {
  const errors = check(exchange);

  result(errors.length ? [...errors, exchange.text] : [],
         `${exchange.operation}: ${exchange.title}`);
}

for (const [name, operation] of operations) {
  const missing = [];

  for (const [status, { node, pointer }] of operation.responses) {
    const type = "application/problem+json";
    const wanted = node.content?.[type]
      ? codesOf(`${pointer}/content/${escape(type)}/schema`)
        .map((code) => `${status} ${code}`)
      : [];

    missing.push(...[status, ...wanted].filter((w) =>
      !operation.seen.has(w)));
  }

  result(missing.map((m) => `never seen: ${m}`),
         `${name}: every answer of the document was seen`);
}

finish();
