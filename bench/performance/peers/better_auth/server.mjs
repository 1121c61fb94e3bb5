// better-auth on node's own server: bearer tokens, sessions in Redis, users in SQLite.

import { createServer } from "node:http";
import { hash, verify } from "@node-rs/argon2";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { bearer } from "better-auth/plugins";
import Database from "better-sqlite3";
import Redis from "ioredis";

const port = Number(process.env.PORT);
const [memoryCost, timeCost, parallelism] = process.env.ARGON2.split(",").map(Number);
const database = new Database(process.env.DATABASE);
database.pragma("journal_mode = WAL");
const redis = new Redis(process.env.REDIS_URL);

const options = {
  baseURL: `http://127.0.0.1:${port}`,
  secret: "x".repeat(40),
  database,
  secondaryStorage: {
    get: (key) => redis.get(key),
    set: (key, value, seconds) => (seconds ? redis.set(key, value, "EX", seconds) : redis.set(key, value)),
    delete: async (key) => {
      await redis.del(key);
    },
  },
  emailAndPassword: {
    enabled: true,
    password: {
      hash: (password) => hash(password, { memoryCost, timeCost, parallelism }),
      verify: ({ hash: stored, password }) => verify(stored, password),
    },
  },
  rateLimit: { enabled: false }, // they would refuse what is measured
  telemetry: { enabled: false },
  plugins: [bearer()],
};
const { runMigrations } = await getMigrations(options);
await runMigrations();
createServer(toNodeHandler(betterAuth(options))).listen(port, "127.0.0.1");
