-- Vectors of texts that are still those of their rows. A row that somebody else is writing is left
-- out, not waited for: nobody waits for the worker, and it causes no deadlock. Nothing is written
-- once the column has another model or source: the lock on its row makes a set-up wait for us.
with found as materialized (
    select v.id, v.vector, v.hash, {key_columns}
    from unnest({ids}::bigint[], {vectors}::text[], {hashes}::bytea[]) as v(id, vector, hash)
    join embedding_api.queue q on q.id = v.id
    join {table} t on {key_matches}
    join embedding_api.columns c on {is_current}
    where {content_hash} = v.hash
    for no key update of t skip locked
    for share of c skip locked
),
written as (
    update {table} t
    set {embedding} = found.vector::{type}, {hash} = found.hash, {fingerprint} = {model}
    from found
    where {found_matches} and {content_hash} = found.hash
    returning found.id
),
finished as (
    delete from embedding_api.queue q using written where q.id = written.id returning q.id
),
-- An earlier text of the row may have been given up.
cleared as (
    delete from embedding_api.queue d
    using written join embedding_api.queue q on q.id = written.id
    where d.name = q.name and d.key_hash = q.key_hash and d.dead_at is not null
),
counted as (
    insert into embedding_api.written (name, rows)
    select {name}, count(*) from finished having count(*) > 0
)
select id from finished
