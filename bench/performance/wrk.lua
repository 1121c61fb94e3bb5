-- Reads, each with the next of the headers in a file, and a line of JSON about them when they are done.
--   HEADER_NAME   name of the header that says who reads
--   HEADER_VALUES file with its values, one a line

local requests, last = {}, 0

function init(args)
  for value in io.lines(os.getenv("HEADER_VALUES")) do
    -- formatted once, so that the client costs as little as it can
    requests[#requests + 1] = wrk.format("GET", nil, {[os.getenv("HEADER_NAME")] = value})
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.4f,"p50":%.3f,"p99":%.3f,"max":%.3f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
