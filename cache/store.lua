-- Keeps vectors with a time to live, in a bounded number, fair between users.
--
-- All keys begin with ARGV 1, which has a hash tag: one slot of a cluster holds them.
--   PREFIX NAME        a vector
--   PREFIX of:USER     sorted set: name -> ms at which it expires, of the vectors a user had computed
--   PREFIX users       sorted set: user -> number of vectors
--   PREFIX count       vectors of all users; at least, since those that expired are counted out later
-- ARGV 1 prefix   2 user   3 most vectors of all users   4 time to live (ms)   5 name, value, and so on
-- -> the number of vectors that were evicted
local prefix, user, most, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local users, total = prefix .. 'users', prefix .. 'count'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function names_of(of)
  return prefix .. 'of:' .. of
end

local function count_again(of)
  redis.call('ZREMRANGEBYSCORE', names_of(of), '-inf', now)
  local count = redis.call('ZCARD', names_of(of))
  local before = tonumber(redis.call('ZSCORE', users, of) or 0)
  if count > 0 then
    redis.call('ZADD', users, count, of)
  else
    redis.call('ZREM', users, of)
  end
  redis.call('INCRBY', total, count - before)
end

-- What another process stored meanwhile stays with the user whom it counts for.
for index = 5, #ARGV, 2 do
  if redis.call('SET', prefix .. ARGV[index], ARGV[index + 1], 'NX', 'PX', ttl) then
    redis.call('ZADD', names_of(user), now + ttl, ARGV[index])
  end
end
count_again(user)
for _, key in ipairs({ names_of(user), users, total }) do
  redis.call('PEXPIRE', key, ttl + 1000)
end

-- The user who holds most loses what they stored first. After a lower limit there may be millions to
-- evict, and Redis does nothing else meanwhile: each call evicts some, and more than it can store.
local evicted = 0
for _ = 1, 256 do
  if tonumber(redis.call('GET', total) or 0) <= most then
    break
  end
  local largest = redis.call('ZREVRANGE', users, 0, 0)[1]
  if not largest then
    redis.call('SET', total, 0, 'PX', ttl + 1000)
    break
  end
  count_again(largest) -- what has expired leaves first
  local over = tonumber(redis.call('GET', total)) > most
  local oldest = over and redis.call('ZPOPMIN', names_of(largest))[1]
  if oldest then
    redis.call('DEL', prefix .. oldest)
    count_again(largest)
    evicted = evicted + 1
  end
end
return evicted
