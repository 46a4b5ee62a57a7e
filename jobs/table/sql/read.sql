-- Texts of claimed rows, up to so many bytes together, but at least one; null for one too long.
with found as (
    select q.id, q.key_hash, t.{first_key} is not null as there,
        {content} as content,
        {content_hash} as hash,
        t.{embedding} is not null and t.{hash} = {content_hash}
            and t.{fingerprint} = {model}
            and exists (select from embedding_api.columns c where {is_current}) as done
    from embedding_api.queue q
    left join {table} t on {key_matches}
    where q.id = any({ids}::bigint[])
),
sized as (
    select *, octet_length(content[2]) as bytes,
        sum(least(octet_length(content[2]), {most_bytes})) over (order by id) as bytes_so_far
    from found
)
select id, key_hash, there, done, hash, bytes > {most_bytes} as too_long,
    content[1] as title, case when bytes <= {most_bytes} then content[2] end as text
from sized
where bytes_so_far is null or bytes_so_far <= {most_bytes_at_once}
   or bytes_so_far = least(bytes, {most_bytes})
order by id
