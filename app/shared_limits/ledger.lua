-- One step of the limits that replicas share. What each step promises, and the arithmetic of
-- buckets, is that of app/core/quota.py; here a reservation is a lease besides: it lapses when the
-- replica that holds it no longer renews it.
--
-- KEYS: the leases by expiry (sorted set), the grants by id (hash), the clock of the leases (hash);
--       then the account of each owner (string, msgpack). One hash tag, so one slot of a cluster.
-- ARGV: the operation, the length of a lease in seconds, the grant's id, its argument; for `reserve`
--       and `extend` then four limits for each owner, empty where there is none.
-- Every step may be sent again: the second time it changes nothing.

local MINUTE_S, DAY_S = 60, 86400
local NEW_SHARE, FIRST_GUESS_S = 0.2, 5 -- of the mean duration, as in app/core/quota.py
local KEPT_S = 2 * DAY_S -- an account that nobody touched for so long is as good as new
local LAPSES_AT_ONCE = 100

local leases, grants, clock = KEYS[1], KEYS[2], KEYS[3]
local operation, lease_s, id = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local at = redis.call('TIME')
local now = at[1] + at[2] / 1000000
local today = math.floor(now / DAY_S)

-- Leases age by a clock of their own. Time in which nobody asked (the server was down, stopped or
-- cut off) counts for two thirds of a lease at most, and leases are renewed six times as often as
-- they lapse: so whoever lives comes in time to renew.
local function read_age()
  local noted = redis.call('HMGET', clock, 'seen', 'age')
  local seen, age = tonumber(noted[1] or now), tonumber(noted[2] or 0)
  age = age + math.max(0, math.min(now - seen, lease_s * 2 / 3))
  if not noted[1] or math.abs(now - seen) > lease_s / 100 then
    redis.call('HSET', clock, 'seen', string.format('%.6f', now), 'age', string.format('%.6f', age))
  end
  return age
end

local age = read_age()

-- Accounts

local accounts, changed = {}, {}

local function room(bucket, held)
  return math.max(0, bucket.capacity - held)
end

local function refill(key, bucket, held)
  if not bucket then
    return
  end
  if now < bucket.at then -- the clock was set back; kept, so that the refill goes on from here
    bucket.at = now
    changed[key] = true
  end
  local gained = (now - bucket.at) * bucket.capacity / MINUTE_S
  bucket.level = math.min(bucket.level + gained, room(bucket, held))
  bucket.at = now
end

local function account_of(key)
  if not accounts[key] then
    local packed = redis.call('GET', key)
    local account = packed and cmsgpack.unpack(packed)
      or { running = 0, waiting = 0, reserved = 0, day = today, day_tokens = 0, mean_s = FIRST_GUESS_S }
    refill(key, account.requests, account.waiting)
    refill(key, account.tokens, account.reserved)
    if today > account.day then
      account.day, account.day_tokens = today, 0
    elseif today < account.day - 1 then -- one day back may be midnight, and begins no day a second time
      account.day = today
      changed[key] = true
    end
    accounts[key] = account
  end
  return accounts[key]
end

local function save()
  for key in pairs(changed) do
    redis.call('SET', key, cmsgpack.pack(accounts[key]), 'EX', KEPT_S)
  end
end

local function limited(bucket, capacity, held)
  if not capacity then
    return nil
  end
  if not bucket then
    return { capacity = capacity, level = math.max(0, capacity - held), at = now }
  end
  bucket.capacity = capacity
  bucket.level = math.min(bucket.level, room(bucket, held))
  return bucket
end

-- The limits that are in force now; kept even where the request is refused.
local function adopt(key, limits)
  local account = account_of(key)
  local requests, tokens = account.requests, account.tokens
  if (requests and requests.capacity) ~= limits.requests or (tokens and tokens.capacity) ~= limits.tokens then
    changed[key] = true
  end
  account.requests = limited(requests, limits.requests, account.waiting)
  account.tokens = limited(tokens, limits.tokens, account.reserved)
  return account
end

local function wait_s(bucket, amount, held)
  if not bucket or amount <= bucket.level then
    return 0
  end
  if amount > room(bucket, held) then
    return math.huge -- until what is held comes back
  end
  return (amount - bucket.level) * MINUTE_S / bucket.capacity
end

local function give_back(bucket, unused, held)
  if bucket then
    bucket.level = math.min(bucket.level + math.max(0, unused), room(bucket, held))
  end
end

local function take(key, requests, tokens)
  local account = account_of(key)
  if account.requests then
    account.requests.level = account.requests.level - requests
  end
  if account.tokens then
    account.tokens.level = account.tokens.level - tokens
  end
  account.running = account.running + requests
  account.waiting = account.waiting + requests
  account.reserved = account.reserved + tokens
  changed[key] = true
end

local function end_waiting(account, unused)
  account.waiting = math.max(0, account.waiting - 1)
  give_back(account.requests, unused, account.waiting)
end

-- Grants

local function grant_of(name)
  local packed = redis.call('HGET', grants, name)
  return packed and cmsgpack.unpack(packed)
end

local function keep(name, grant)
  redis.call('HSET', grants, name, cmsgpack.pack(grant))
  redis.call('ZADD', leases, age + lease_s, name)
end

local function forget(name)
  redis.call('HDEL', grants, name)
  redis.call('ZREM', leases, name)
end

local function close(grant, used)
  for _, key in ipairs(grant.owners) do
    local account = account_of(key)
    if not grant.started then
      end_waiting(account, 1)
    end
    account.running = math.max(0, account.running - 1)
    account.reserved = math.max(0, account.reserved - grant.tokens)
    give_back(account.tokens, grant.tokens - used, account.reserved)
    account.day_tokens = account.day_tokens + used
    changed[key] = true
  end
end

-- What a killed replica has started counts as used: how much of it was, nobody knows any more.
local function lapse()
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', age, 'LIMIT', 0, LAPSES_AT_ONCE)) do
    local grant = grant_of(name)
    if grant and not grant.is_void then
      close(grant, grant.started and grant.tokens or 0)
    end
    forget(name)
  end
end

-- Answers: what was decided, its details, and how the owners stand

local function standings()
  local found = {}
  for owner = 4, #KEYS do
    local account = account_of(KEYS[owner])
    for _, each in ipairs({ { account.requests, account.waiting }, { account.tokens, account.reserved } }) do
      local bucket, held = each[1], each[2]
      if bucket then
        local reset_s = (room(bucket, held) - bucket.level) * MINUTE_S / bucket.capacity
        found[#found + 1] = { bucket.capacity, math.floor(bucket.level), string.format('%.6f', reset_s) }
      else
        found[#found + 1] = {}
      end
    end
  end
  return found
end

local function answer(decision, ...)
  save()
  return { decision, { ... }, standings() }
end

-- Operations

local function limits_of(owner)
  local first = 4 + 4 * (owner - 4)
  local limits = {}
  for place, name in ipairs({ 'requests', 'tokens', 'concurrent', 'day' }) do
    limits[name] = tonumber(ARGV[first + place])
  end
  return limits
end

local function waits(account, limits, requests, tokens)
  local until_next_ends = account.mean_s / math.max(1, account.running)
  local concurrent, day = 0, 0
  if requests > 0 and limits.concurrent and account.running >= limits.concurrent then
    concurrent = math.huge
  end
  if limits.day and account.day_tokens + tokens > limits.day then
    day = DAY_S - now % DAY_S
  elseif limits.day and account.day_tokens + account.reserved + tokens > limits.day then
    day = math.huge
  end
  local found = {
    { 'requests_per_minute', wait_s(account.requests, requests, account.waiting) },
    { 'tokens_per_minute', wait_s(account.tokens, tokens, account.reserved) },
    { 'concurrent_requests', concurrent },
    { 'tokens_per_day', day },
  }
  for _, each in ipairs(found) do
    each[2] = each[2] == math.huge and until_next_ends or each[2]
  end
  return found
end

-- Takes from all owners or from none. Returns the refusal: owner, limit, seconds to wait.
local function take_from_all(requests, tokens)
  local longest
  for owner = 4, #KEYS do
    local limits = limits_of(owner)
    local account = adopt(KEYS[owner], limits)
    for _, each in ipairs(waits(account, limits, requests, tokens)) do
      if each[2] > 0 and (not longest or each[2] > longest[3]) then
        longest = { owner - 4, each[1], each[2] }
      end
    end
  end
  if longest then
    return { longest[1], longest[2], string.format('%.6f', longest[3]) }
  end
  for owner = 4, #KEYS do
    take(KEYS[owner], requests, tokens)
  end
end

local function owner_keys()
  local keys = {}
  for owner = 4, #KEYS do
    keys[#keys + 1] = KEYS[owner]
  end
  return keys
end

local steps = {}

function steps.reserve()
  local grant, tokens = grant_of(id), tonumber(ARGV[4])
  if grant then
    return answer(grant.is_void and 'gone' or 'granted')
  end
  local refusal = take_from_all(1, tokens)
  if refusal then
    return answer('refused', unpack(refusal))
  end
  keep(id, { owners = owner_keys(), tokens = tokens, opened = now, started = false })
  return answer('granted')
end

-- The argument is what the grant is to hold in all.
function steps.extend()
  local grant, total = grant_of(id), tonumber(ARGV[4])
  if not grant or grant.is_void then
    return answer('gone')
  end
  if total > grant.tokens then
    local refusal = take_from_all(0, total - grant.tokens)
    if refusal then
      return answer('refused', unpack(refusal))
    end
    grant.tokens = total
    keep(id, grant)
  end
  return answer('granted')
end

function steps.start()
  local grant = grant_of(id)
  if not grant or grant.is_void then
    return answer('gone')
  end
  if not grant.started then
    grant.started = true
    for _, key in ipairs(grant.owners) do
      end_waiting(account_of(key), 0)
      changed[key] = true
    end
    keep(id, grant)
  end
  return answer('granted')
end

function steps.settle()
  local grant = grant_of(id)
  if grant and not grant.is_void then
    close(grant, grant.is_revived and 0 or tonumber(ARGV[4]))
    for _, key in ipairs(grant.owners) do
      local account = account_of(key)
      account.mean_s = account.mean_s + NEW_SHARE * (math.max(0, now - grant.opened) - account.mean_s)
    end
    forget(id)
  end
  return answer('done')
end

-- A reservation of which the replica does not know whether it was made: gone if it was, and refused
-- if it is still to come.
function steps.undo()
  local grant = grant_of(id)
  if not grant then
    keep(id, { is_void = true })
  elseif not grant.is_void then
    close(grant, 0)
    forget(id)
  end
  return answer('done')
end

-- ARGV from the third: the ids of what a replica has running. Answers with those that are not known.
function steps.renew()
  local unknown = {}
  for place = 3, #ARGV do
    if redis.call('HEXISTS', grants, ARGV[place]) == 1 then
      redis.call('ZADD', leases, age + lease_s, ARGV[place])
    else
      unknown[#unknown + 1] = ARGV[place]
    end
  end
  return answer('done', unpack(unknown))
end

-- A request that runs although its lease lapsed counts as running again; its tokens were counted when
-- the lease lapsed, and are not counted again at its end.
function steps.revive()
  if not grant_of(id) then
    local owners = owner_keys()
    for _, key in ipairs(owners) do
      local account = account_of(key)
      account.running = account.running + 1
      changed[key] = true
    end
    keep(id, { owners = owners, tokens = 0, opened = now, started = true, is_revived = true })
  end
  return answer('done')
end

lapse()
return steps[operation]()
