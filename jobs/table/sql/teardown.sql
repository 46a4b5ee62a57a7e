drop trigger if exists {trigger} on {table};
drop function if exists {trigger_function}();
drop function if exists {read_function}(bigint[], text);
drop function if exists {write_function}(bigint[], text[], bytea[], text);
drop function if exists {search}({type_name}, integer, text);
drop index if exists {index_name};
delete from embedding_api.columns where name = {name};
