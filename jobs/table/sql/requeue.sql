-- Rows without the vector of their present text, those that were given up included.
delete from embedding_api.queue where name = {name} and dead_at is not null;
insert into embedding_api.queue (name, key, key_hash)
select {name}, k.key, sha256(convert_to(k.key::text, 'UTF8'))
from {table} t
cross join lateral (select {row_key} as key) k
join embedding_api.columns c on c.name = {name}
where t.{hash} is distinct from {content_hash}
   or t.{embedding} is null and coalesce(({content})[2], '') ~ '[^[:space:]]'
   or t.{fingerprint} is null
   or t.{fingerprint} is distinct from c.fingerprint
on conflict (name, key_hash) where attempts = 0 do update set key = excluded.key;
notify embedding_api;
