-- Track calls of about 360 bytes for wrk, each with a message id of its own.
--
--   wrk … -s events.lua URL -- RUN EVENTS SHAPE
--
-- RUN makes the ids different from those of other runs; EVENTS are sent in a request; more than
-- one as a Segment batch (SHAPE segment) or as a bare array (SHAPE array). One thread only.
-- The last line of the output is what was measured, as JSON.

local TEMPLATES = 1000
local names = { "Product Viewed", "Product Added", "Order Completed", "Checkout Started" }
local locales = { "de-DE", "en-US", "en-GB", "fr-FR", "pt-BR" }

-- What stands before and after the message id.
local function template(n, now)
  local front = string.format(
    '{"type":"track","event":"%s","userId":"%012x%012x","messageId":"',
    names[n % #names + 1], n * 79190137 % 2 ^ 47, n * 28657 * 514229 % 2 ^ 47)
  local back = string.format(
    '","timestamp":"%s.%03dZ","context":{"library":{"name":"analytics.js","version":"4.1.0"},'
    .. '"locale":"%s","page":{"path":"/p/%d"}},'
    .. '"properties":{"price":%d.%02d,"currency":"EUR","sku":"A-%d","quantity":%d}}',
    now, n % 1000, locales[n % #locales + 1], n * 31 % 2000,
    n * 37 % 500, n * 41 % 100, n * 43 % 5000, n % 5 + 1)
  return front, back
end

function init(arguments)
  local run, shape = tonumber(arguments[1]), arguments[3]
  events = tonumber(arguments[2])
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  local now = os.date("!%Y-%m-%dT%H:%M:%S")
  local fronts, backs, suffixes = {}, {}, {}
  for n = 1, TEMPLATES do
    fronts[n], backs[n] = template(n, now)
    suffixes[n] = string.format("-%04x-4000-8000-%012x", n % events, run)
  end
  local open, close = "", ""
  if events > 1 then
    open = shape == "array" and "[" or '{"batch":['
    close = shape == "array" and "]" or "]}"
  end
  -- A request is a row of pieces; every second one begins a message id.
  requests = {}
  for first = 1, TEMPLATES, events do
    local pieces = { open .. fronts[first] }
    for n = first, first + events - 1 do
      local last = n == first + events - 1
      pieces[#pieces + 1] = ""
      pieces[#pieces + 1] = suffixes[n] .. backs[n] .. (last and close or "," .. fronts[n + 1])
    end
    requests[#requests + 1] = pieces
  end
  sent = 0
end

function request()
  local pieces = requests[sent % #requests + 1]
  local id = string.format("%08x", sent)
  for at = 2, #pieces, 2 do pieces[at] = id end
  sent = sent + 1
  return wrk.format(nil, nil, nil, table.concat(pieces))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%f,"refused":%d,"broken":%d,"p50_ms":%f,"p99_ms":%f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
