#include "pack.h"

bool Scratch::reserve(const Shape& shape, int longest_text) {
    size_t keys = padded(longest_text), input = shape.longest_input(), bytes = shape.int8 ? 1 : 4;
    size_t row = input > (size_t)shape.widest() ? input : shape.widest();
    if (!arena_.reserve(Arena::padded_bytes<float>(MAX_CHUNK_ROWS * shape.width) +
                        Arena::padded_bytes<float>(MAX_CHUNK_ROWS * shape.widest()) +
                        Arena::padded_bytes<float>(row) +
                        Arena::padded_bytes<uint8_t>(MAX_CHUNK_ROWS * input * bytes) +
                        Arena::padded_bytes<float>(MAX_CHUNK_ROWS) +
                        Arena::padded_bytes<float>(QUERY_ROWS * keys) +
                        Arena::padded_bytes<uint8_t>(QUERY_ROWS * keys * bytes) +
                        Arena::padded_bytes<float>(QUERY_ROWS)))
        return false;
    narrow = arena_.take<float>(MAX_CHUNK_ROWS * shape.width);
    wide = arena_.take<float>(MAX_CHUNK_ROWS * shape.widest());
    row_values = arena_.take<float>(row);
    inputs = {arena_.take<uint8_t>(MAX_CHUNK_ROWS * input * bytes),
              arena_.take<float>(MAX_CHUNK_ROWS)};
    scores = arena_.take<float>(QUERY_ROWS * keys);
    probabilities = arena_.take<uint8_t>(QUERY_ROWS * keys * bytes);
    row_scale = arena_.take<float>(QUERY_ROWS);
    return true;
}

bool Pack::reserve(const Shape& shape, int max_rows, int max_texts) {
    size_t slots = max_rows + 15 * (size_t)max_texts + 15;
    size_t rows = max_rows, bytes = shape.int8 ? 1 : 4;
    size_t queries = rows * shape.attention(), keys = slots * shape.keys();
    size_t scales = slots * shape.kv_heads(), heads = rows * shape.heads[0].count;
    size_t embedded = shape.per_layer ? rows * shape.width * bytes : 0;
    size_t layer = Arena::padded_bytes<uint8_t>(keys * shape.score_bytes()) +
                   Arena::padded_bytes<uint8_t>(keys * shape.value_bytes()) +
                   2 * Arena::padded_bytes<float>(scales);
    if (!arena_.reserve(Arena::padded_bytes<Text>(max_texts) +
                        2 * Arena::padded_bytes<int32_t>(rows) +
                        Arena::padded_bytes<float>(rows * shape.width) +
                        Arena::padded_bytes<uint8_t>(queries * shape.score_bytes()) +
                        Arena::padded_bytes<float>(heads) +
                        Arena::padded_bytes<uint8_t>(embedded) +
                        Arena::padded_bytes<float>(rows) + 2 * layer))
        return false;
    token_ids = arena_.take<int32_t>(rows);
    texts = arena_.take<Text>(max_texts);
    text_of_row = arena_.take<int>(rows);
    x = arena_.take<float>(rows * shape.width);
    q = arena_.take<uint8_t>(queries * shape.score_bytes());
    q_scale = arena_.take<float>(heads);
    embeddings = {arena_.take<uint8_t>(embedded), arena_.take<float>(rows)};
    for (KeysValues& layer : layers) {
        layer.k = arena_.take<uint8_t>(keys * shape.score_bytes());
        layer.v = arena_.take<uint8_t>(keys * shape.value_bytes());
        layer.k_scale = arena_.take<float>(scales);
        layer.v_scale = arena_.take<float>(scales);
    }
    return true;
}
