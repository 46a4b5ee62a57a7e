-- One schema for all filled columns of a database. Nobody but its owner may use it.
create schema if not exists embedding_api;
revoke all on schema embedding_api from public;

-- One row per filled column. `relation` follows the table when it is renamed.
create table if not exists embedding_api.columns (
    name text primary key,
    relation regclass not null,
    embedding text not null,     -- the column that is filled
    keys text[] not null,        -- the primary key of the table
    template text,               -- null with a function
    function text,               -- takes a row of the table, gives its text
    title text,                  -- a column
    kind text not null,          -- vector or halfvec
    dimensions integer not null,
    search text not null,        -- the search function
    made boolean not null,       -- whether the set-up made that column
    fingerprint text,            -- of the model that fills it; null before the first worker
    unique (relation, embedding)
);
-- The task that the model has for the texts of rows; null where it has none.
alter table embedding_api.columns add column if not exists task text;

-- Rows whose text is new. Until a worker claims an entry (attempts = 0) it stands for every change
-- of its row. Later changes make a new entry: the claimed one may be finished with the old text.
create table if not exists embedding_api.queue (
    id bigint generated always as identity primary key,
    name text not null references embedding_api.columns on delete cascade,
    key jsonb not null,
    key_hash bytea not null,     -- SHA-256: a key may be longer than an index entry
    added_at timestamptz not null default clock_timestamp(),
    ready_at timestamptz not null default clock_timestamp(),
    attempts integer not null default 0,
    last_error text,
    dead_at timestamptz
);
create unique index if not exists queue_once
    on embedding_api.queue (name, key_hash) where attempts = 0;
create index if not exists queue_dead
    on embedding_api.queue (name, key_hash) where dead_at is not null;
create index if not exists queue_order on embedding_api.queue (id) where dead_at is null;

-- What was written lately: the rate of `status`.
create table if not exists embedding_api.written (
    name text not null references embedding_api.columns on delete cascade,
    written_at timestamptz not null default clock_timestamp(),
    rows integer not null
);
create index if not exists written_order on embedding_api.written (written_at);

-- Columns of tables that were dropped, with their queues.
delete from embedding_api.columns c
where not exists (select from pg_catalog.pg_class where oid = c.relation);
