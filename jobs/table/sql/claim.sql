-- The rows that have waited longest, of one column. A row that was claimed twice and has no vector
-- yet goes alone: it may be what ended the worker.
with ready as materialized (
    select q.id, q.attempts
    from embedding_api.queue q
    where q.dead_at is null and q.ready_at <= clock_timestamp()
      and q.name = (
        select f.name
        from embedding_api.queue f join embedding_api.columns c on c.name = f.name
        where f.dead_at is null and f.ready_at <= clock_timestamp()
          and f.name = any({names}::text[]) and c.fingerprint is not distinct from {fingerprint}
        order by f.id limit 1
      )
    order by q.id limit {most}
    for update skip locked
),
first as (select id, attempts from ready order by id limit 1)
update embedding_api.queue q
set attempts = q.attempts + 1, ready_at = now() + make_interval(secs => {lease})
from ready, first
where q.id = ready.id
  and case when first.attempts < 2 then ready.attempts < 2 else ready.id = first.id end
returning q.id, q.name, q.attempts
