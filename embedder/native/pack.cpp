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
    inputs = {arena_.take<uint8_t>(MAX_CHUNK_ROWS * input * bytes), 0,
              arena_.take<float>(MAX_CHUNK_ROWS)};
    scores = arena_.take<float>(QUERY_ROWS * keys);
    probabilities = arena_.take<uint8_t>(QUERY_ROWS * keys * bytes);
    row_scale = arena_.take<float>(QUERY_ROWS);
    return true;
}

bool Pack::reserve(const Shape& shape, int max_rows, int max_texts) {
    size_t slots = max_rows + 15 * (size_t)max_texts + 15;
    size_t queries = (size_t)max_rows * shape.attention;
    size_t keys = slots * shape.kv_heads * shape.head_dim;
    size_t layer = Arena::padded_bytes<uint8_t>(keys * shape.score_bytes()) +
                   Arena::padded_bytes<uint8_t>(keys * shape.value_bytes()) +
                   2 * Arena::padded_bytes<float>(slots * shape.kv_heads);
    if (!arena_.reserve(Arena::padded_bytes<Text>(max_texts) +
                        2 * Arena::padded_bytes<int32_t>(max_rows) +
                        Arena::padded_bytes<float>((size_t)max_rows * shape.width) +
                        Arena::padded_bytes<uint8_t>(queries * shape.score_bytes()) +
                        Arena::padded_bytes<float>((size_t)max_rows * shape.heads) + 2 * layer))
        return false;
    token_ids = arena_.take<int32_t>(max_rows);
    texts = arena_.take<Text>(max_texts);
    text_of_row = arena_.take<int>(max_rows);
    x = arena_.take<float>((size_t)max_rows * shape.width);
    q = arena_.take<uint8_t>(queries * shape.score_bytes());
    q_scale = arena_.take<float>((size_t)max_rows * shape.heads);
    for (KeysValues& layer : layers) {
        layer.k = arena_.take<uint8_t>(keys * shape.score_bytes());
        layer.v = arena_.take<uint8_t>(keys * shape.value_bytes());
        layer.k_scale = arena_.take<float>(slots * shape.kv_heads);
        layer.v_scale = arena_.take<float>(slots * shape.kv_heads);
    }
    return true;
}
