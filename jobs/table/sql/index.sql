create index if not exists {index} on {table} using hnsw ({embedding} {operator_class});
