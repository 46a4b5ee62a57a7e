-- One user's quota, checked and charged in one step: an exact sliding log of requests, and the
-- tokens of the UTC day. A refused operation leaves no trace.
--
-- KEYS 1  sorted set: request id -> time (µs)
--      2  hash: day (days since 1970), used (tokens)
-- ARGV 1  charge (one request) | spend (tokens) | refund (both) | usage
--      2  request id        3  tokens
--      4  request limit     5  window (µs)     6  tokens per day, -1: no limit
--      7  now (µs), -1: this server's clock
--      8  time (µs) at which the tokens of a refund were spent
-- -> { refused: 0 no, 1 requests, 2 tokens; requests in the window; µs until the next slot;
--      tokens used today; now (µs) }
local operation, id, tokens = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, window, per_day = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = tonumber(ARGV[7])
if now < 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local day = math.floor(now / 86400000000)

local used = 0
local stored = per_day >= 0 and redis.call('HMGET', KEYS[2], 'day', 'used') or {}

-- A clock that was set back leaves requests (and a day) in the future. They count as made now: no
-- request is forgotten, and nobody waits longer than one window.
if stored[1] and tonumber(stored[1]) >= day then
  used = tonumber(stored[2])
  if tonumber(stored[1]) > day then redis.call('HSET', KEYS[2], 'day', day) end
end
local future = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')
for _, member in ipairs(future) do redis.call('ZADD', KEYS[1], now, member) end

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local count = redis.call('ZCARD', KEYS[1])

local function keep_used()
  redis.call('HSET', KEYS[2], 'day', day, 'used', used)
  redis.call('EXPIRE', KEYS[2], 86401 - math.floor(now / 1000000) % 86400)
end

local refused = 0
if operation == 'charge' then
  if count >= limit then
    refused = 1
  elseif per_day >= 0 and used >= per_day then
    refused = 2
  else
    redis.call('ZADD', KEYS[1], now, id)
    redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1000)
    count = count + 1
  end
elseif operation == 'spend' and per_day >= 0 then
  if used + tokens > per_day then
    refused = 2
  else
    used = used + tokens
    keep_used()
  end
elseif operation == 'refund' then
  count = count - redis.call('ZREM', KEYS[1], id)
  if tokens > 0 and per_day >= 0 and day == math.floor(tonumber(ARGV[8]) / 86400000000) then
    used = math.max(0, used - tokens)
    keep_used()
  end
end

-- The request whose leaving frees a slot: the oldest, or a later one where the limit was lowered.
local first = math.max(0, count - limit)
local oldest = redis.call('ZRANGE', KEYS[1], first, first, 'WITHSCORES')
local free_after = oldest[2] and tonumber(oldest[2]) + window - now or 0
return { refused, count, free_after, used, now }
