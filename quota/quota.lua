-- One user's quota, checked and charged in one step: an exact sliding log of requests, and the
-- tokens of the UTC day. A refused operation leaves no trace.
--
-- KEYS 1  sorted set: request id -> time (µs)
--      2  hash: day (days since 1970), used (tokens)
-- ARGV 1  charge (one request) | spend (tokens) | refund (both) | usage | restore | generation
--      2  request id        3  tokens
--      4  request limit     5  window (µs)     6  tokens per day; of both limits -1: none
--      7  now (µs), -1: this server's clock
--      8  time (µs) at which the tokens of a refund were spent
--      9  the process that asks, and what was confirmed to it: 10 its last request's id, '' for none,
--      11 that request's time (µs), 12 its tokens, 13 of which day
--      14 of restore: request id, age (µs), and so on
-- -> { refused: 0 no, 1 requests, 2 tokens, 3 what was confirmed is lost; requests in the window;
--      µs until the next slot; tokens used today; now (µs) }
local operation, id, tokens = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, window, per_day = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = tonumber(ARGV[7])
if operation == 'generation' then -- a mark on the whole store: another one, or a new one, is a loss
  redis.call('SET', KEYS[1], id, 'NX')
  return redis.call('GET', KEYS[1])
end
if now < 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local day = math.floor(now / 86400000000)

local used, own = 0, 0
local stored = per_day >= 0 and redis.call('HMGET', KEYS[2], 'day', 'used', ARGV[9]) or {}

-- A clock that was set back leaves requests (and a day) in the future. They count as made now: no
-- request is forgotten, and nobody waits longer than one window.
if stored[1] and tonumber(stored[1]) >= day then
  used, own = tonumber(stored[2]), tonumber(stored[3] or 0)
  if tonumber(stored[1]) > day then redis.call('HSET', KEYS[2], 'day', day) end
end
local future = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')
for _, member in ipairs(future) do redis.call('ZADD', KEYS[1], now, member) end

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local count = redis.call('ZCARD', KEYS[1])

local function keep_log()
  redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1000)
end

local function add_tokens(more)
  if stored[1] and tonumber(stored[1]) < day then redis.call('DEL', KEYS[2]) end
  used, own = math.max(0, used + more), math.max(0, own + more)
  redis.call('HSET', KEYS[2], 'day', day, 'used', used, ARGV[9], own)
  redis.call('EXPIRE', KEYS[2], 86401 - math.floor(now / 1000000) % 86400)
end

-- FLUSHALL, an eviction, a restart with nothing on disk: each process brings back what it knows.
local missing = per_day >= 0 and tonumber(ARGV[13]) == day and tonumber(ARGV[12]) - own or 0
if operation == 'restore' then
  for index = 14, #ARGV, 2 do
    redis.call('ZADD', KEYS[1], 'NX', now - tonumber(ARGV[index + 1]), ARGV[index])
  end
  keep_log()
  if missing > 0 then add_tokens(missing) end
  return { 0, redis.call('ZCARD', KEYS[1]), 0, used, now }
end
local expected = ARGV[10] ~= '' and tonumber(ARGV[11]) > now - window
if missing > 0 or (expected and not redis.call('ZSCORE', KEYS[1], ARGV[10])) then
  return { 3, count, 0, used, now }
end

local refused = 0
if operation == 'charge' then
  if limit >= 0 and count >= limit then
    refused = 1
  elseif per_day >= 0 and used >= per_day then
    refused = 2
  elseif limit >= 0 then
    redis.call('ZADD', KEYS[1], now, id)
    keep_log()
    count = count + 1
  end
elseif operation == 'spend' and per_day >= 0 then
  if used + tokens > per_day then
    refused = 2
  else
    add_tokens(tokens)
  end
elseif operation == 'refund' then
  count = count - redis.call('ZREM', KEYS[1], id)
  if tokens > 0 and per_day >= 0 and day == math.floor(tonumber(ARGV[8]) / 86400000000) then
    add_tokens(-tokens)
  end
end

-- The request whose leaving frees a slot: the oldest, or a later one where the limit was lowered.
local first = math.max(0, count - limit)
local oldest = redis.call('ZRANGE', KEYS[1], first, first, 'WITHSCORES')
local free_after = oldest[2] and tonumber(oldest[2]) + window - now or 0
return { refused, count, free_after, used, now }
