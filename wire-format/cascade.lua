-- Wireshark's dissector of the Cascade link protocol (SPEC.md beside this file). Fields are named as there.
--
--   wireshark -X lua_script:wire-format/cascade.lua -N n FILE
--
-- What the simulator writes (`sim pcap`, SPEC section 14) is shown frame by frame; of real datagrams, which are sealed, the
-- header alone. QUIC, RTP, RTCP and STUN of the port go to Wireshark's own dissectors, and so does the RTP in frames.
--
-- Useful filters: cascade.stream.room == 1, cascade.capture.lost, cascade.frame.type == 11, cascade.malformed,
-- cascade.destinations.node == 3, cascade.media.plane != 0, cascade.media.marked == 1.
--
-- Bytes are somebody else's: nothing is read beyond the body that it belongs to, and what makes no sense is marked
-- (cascade.malformed says how: truncated, destinations, field, malformed or too-long, as in the vectors), never an error
-- of this script.

local PORT = 4700
local RECORD_BYTES = 29
local RECORD_VERSION = 1
local SET_NODES_OF_BIT_MAP = 256
local RANGES_MAX = 64
local PARITY_ROWS = 128
local PARITY_MAP_BYTES_MAX = 16
local PARITY_COVERED_MAX = 64
local MESSAGE_BYTES_MAX = 16384
local FRAGMENTS_KEPT = 4096

local cascade = Proto("cascade", "Cascade relay overlay")

-- Names of values.

local FATES = {
    [0] = "arrives",
    [1] = "lost: the link is down",
    [2] = "lost: the queue is full",
    [3] = "lost on the wire",
    [4] = "lost: larger than the path takes",
}
local DIRECTIONS = { [0] = "from the side that dialled", [1] = "towards the side that dialled" }
local TYPES = {
    [0] = "padding",
    [1] = "media",
    [2] = "heartbeat",
    [3] = "keyframe request",
    [4] = "edge",
    [5] = "edge keyframe request",
    [6] = "fragment",
    [7] = "MTU probe",
    [8] = "path challenge",
    [9] = "repair request",
    [10] = "repair",
    [11] = "parity",
}
local MEDIA, EDGE, FRAGMENT, REPAIR, PARITY = 1, 4, 6, 10, 11
local PLANES = { [0] = "primary", [1] = "red", [2] = "blue", [3] = "illegal" }
local PRIORITIES = { [0] = "audio", [1] = "base video", [2] = "other video", [3] = "enhancement" }
local FORMS = { [0] = "list", [1] = "bit map", [2] = "blocks", [3] = "illegal" }
local ASKS = { [0] = "question", [1] = "answer" }
local KINDS = { [0] = "audio", [1] = "video" }
local CIPHERS = { [0] = "AES-128-GCM", [1] = "ChaCha20-Poly1305" }
local ROLES = { [0] = "Relay", [1] = "Client" }
local CODES = {
    [0] = "version",
    [1] = "not a neighbour",
    [2] = "token",
    [3] = "rights",
    [4] = "limit",
    [5] = "invalid",
    [6] = "unavailable",
}
local MESSAGES = {
    [0] = "Hello",
    [1] = "Accept",
    [2] = "Refuse",
    [3] = "Publish",
    [4] = "Published",
    [5] = "Unpublish",
    [6] = "Subscribe",
    [7] = "Subscribed",
    [8] = "Unsubscribe",
    [9] = "Announce",
    [10] = "Ended",
    [11] = "Goodbye",
    [12] = "Lanes",
    [13] = "PublishProtected",
    [14] = "Client",
}

-- Fields: kind, name behind "cascade.", title, and what ProtoField takes besides.

local f = {}
local all = {}
local function declare(kind, name, title, ...)
    f[name] = ProtoField[kind]("cascade." .. name, title, ...)
    all[#all + 1] = f[name]
end

declare("none", "capture", "Record of the simulator")
declare("uint8", "capture.version", "Version of the record")
declare("uint8", "capture.direction", "Direction", base.DEC, DIRECTIONS, 0x01)
declare("bool", "capture.copied", "The network made a second copy", 8, nil, 0x02)
declare("uint8", "capture.fate", "Fate", base.DEC, FATES)
declare("bool", "capture.lost", "Lost by the network")
declare("uint32", "capture.link", "Link")
declare("uint64", "capture.number", "Packet number")
declare("relative_time", "capture.took", "Time on the way")
declare("uint16", "capture.from_node", "Sender's node index")
declare("uint16", "capture.to_node", "Receiver's node index")
declare("uint8", "capture.lane", "Lane")

declare("uint8", "sealed.reserved", "Reserved", base.DEC, nil, 0x06)
declare("uint8", "sealed.key_phase", "Key phase", base.DEC, nil, 0x01)
declare("uint32", "sealed.receiver", "Receiver index")
declare("uint64", "sealed.number", "Packet number")
declare("bytes", "sealed.ciphertext", "Ciphertext")
declare("bytes", "sealed.tag", "Authentication tag")

declare("relative_time", "send_time", "Send time")
declare("none", "frame", "Frame")
declare("uint16", "frame.type", "Type", base.DEC, TYPES, 0xF800)
declare("uint16", "frame.length", "Length of body", base.DEC, nil, 0x07FF)
declare("bytes", "frame.body", "Body")
declare("bytes", "frame.rest", "Behind the known fields")
declare("bytes", "padding", "Padding")
declare("bytes", "packet", "RTP or RTCP packet")
declare("string", "malformed", "Malformed")

declare("uint32", "stream.room", "Room")
declare("uint32", "stream.user", "User")
declare("uint16", "stream.stream", "Stream")

declare("uint8", "media.incarnation", "Incarnation")
declare("uint32", "media.sequence", "Sequence")
declare("relative_time", "media.slack", "Slack")
declare("uint8", "media.priority", "Priority", base.DEC, PRIORITIES, 0xE0)
declare("uint8", "media.hop_limit", "Hop limit", base.DEC, nil, 0x1F)
declare("uint16", "media.epoch", "Epoch")
declare("uint8", "media.plane", "Plane", base.DEC, PLANES, 0xC0)
declare("bool", "media.marked", "M, marked", 8, nil, 0x20)
declare("bool", "media.rtcp", "C, RTCP", 8, nil, 0x10)
declare("bool", "media.protected", "P, protected", 8, nil, 0x08)
declare("uint8", "media.policy", "Policy", base.DEC, nil, 0x07)
declare("bytes", "destinations", "Destination set")
declare("uint8", "destinations.form", "Form", base.DEC, FORMS, 0xC0)
declare("uint8", "destinations.length", "Length less 1", base.DEC, nil, 0x3F)
declare("uint16", "destinations.node", "Node")

declare("bool", "heartbeat.repairs", "R, repairs", 8, nil, 0x04)
declare("bool", "heartbeat.echo", "E, echo is there", 8, nil, 0x02)
declare("bool", "heartbeat.in_use", "U, in use", 8, nil, 0x01)
declare("uint32", "heartbeat.highest", "Highest")
declare("uint32", "heartbeat.received", "Received")
declare("relative_time", "heartbeat.echo_time", "Echo time")
declare("relative_time", "heartbeat.echo_delay", "Echo delay")
declare("relative_time", "heartbeat.jitter", "Jitter")
declare("uint16", "heartbeat.probes_sent", "Probes sent")
declare("uint16", "heartbeat.probes_received", "Probes received")
declare("uint16", "heartbeat.large_received", "Large received")
declare("relative_time", "heartbeat.queueing_delay", "Queueing delay")
declare("uint32", "heartbeat.bytes_received", "Bytes received")
declare("uint16", "heartbeat.media_through", "Media through")
declare("uint32", "heartbeat.media_sent", "Media sent")

declare("uint16", "keyframe_request.ingress", "Ingress")
declare("uint8", "keyframe_request.hop_limit", "Hop limit")

declare("uint16", "edge.handle", "Handle")
declare("uint32", "edge.sequence", "Sequence")
declare("relative_time", "edge.slack", "Slack")
declare("uint8", "edge.priority", "Priority", base.DEC, PRIORITIES, 0xE0)
declare("bool", "edge.rtcp", "C, RTCP", 8, nil, 0x01)
declare("uint16", "edge_keyframe_request.handle", "Handle")

declare("uint16", "fragment.id", "Id")
declare("bool", "fragment.second", "Second", 8, nil, 0x01)
declare("bytes", "fragment.share", "Bytes of a frame")

declare("uint8", "mtu_probe.kind", "Kind", base.DEC, ASKS)
declare("uint16", "mtu_probe.bytes", "Bytes")
declare("uint16", "mtu_probe.count", "Count")

declare("uint8", "path_challenge.kind", "Kind", base.DEC, ASKS)
declare("bytes", "path_challenge.token", "Token")

declare("bool", "repair_request.silent", "Silent", 8, nil, 0x01)
declare("uint32", "repair_request.through", "Through")
declare("uint16", "repair_request.gap", "Gap")
declare("uint8", "repair_request.count", "Count")
declare("string", "repair_request.missing", "Missing")

declare("uint32", "repair.number", "Number")
declare("relative_time", "repaired.send_time", "Send time")
declare("uint16", "repaired.type", "Type", base.DEC, TYPES, 0xF800)
declare("uint16", "repaired.length", "Length of body", base.DEC, nil, 0x07FF)
declare("bytes", "repaired.padding", "Padding")

declare("uint8", "parity.row", "Row")
declare("uint8", "parity.map_bytes", "Bytes of the map")
declare("uint32", "parity.base", "Base")
declare("bytes", "parity.map", "Map")
declare("uint32", "parity.covers", "Covers")
declare("bytes", "parity.sum", "Sum")

declare("uint32", "session.length", "Length of body")
declare("uint32", "session.message", "Message", base.DEC, MESSAGES)
declare("bool", "session.ready", "Ready sign")
declare("uint32", "session.request", "Request")
declare("string", "session.room", "Room")
declare("string", "session.user", "User")
declare("string", "session.stream", "Stream")
declare("uint32", "session.kind", "Kind", base.DEC, KINDS)
declare("uint32", "session.budget_ms", "Delay budget in ms")
declare("uint16", "session.handle", "Handle")
declare("uint32", "session.subscription", "Subscription")
declare("uint8", "session.incarnation", "Incarnation")
declare("uint32", "session.code", "Code", base.DEC, CODES)
declare("string", "session.reason", "Reason")
declare("uint8", "session.version_lowest", "Lowest version")
declare("uint8", "session.version_highest", "Highest version")
declare("uint8", "session.version", "Version")
declare("uint32", "session.receiver", "Receiver index")
declare("uint32", "session.cipher", "Cipher", base.DEC, CIPHERS)
declare("uint16", "session.max_datagram", "Largest datagram")
declare("uint32", "session.role", "Role", base.DEC, ROLES)
declare("uint16", "session.node", "Node")
declare("string", "session.secret", "Secret, not shown")

cascade.fields = all

local malformed_expert =
    ProtoExpert.new("cascade.expert.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
local lost_expert =
    ProtoExpert.new("cascade.expert.lost", "Lost by the network", expert.group.SEQUENCE, expert.severity.NOTE)
local refused_expert =
    ProtoExpert.new("cascade.expert.refused", "Refused where it is", expert.group.PROTOCOL, expert.severity.WARN)
local unknown_expert =
    ProtoExpert.new("cascade.expert.unknown", "Frame of an unknown type", expert.group.UNDECODED, expert.severity.NOTE)
cascade.experts = { malformed_expert, lost_expert, refused_expert, unknown_expert }

-- What is wrong with bytes travels as an error of its own kind, up to whoever shows it.

local Wrong = {}
local function wrong(kind)
    error(setmetatable({ kind = kind }, Wrong), 0)
end

-- Calls what reads bytes of others. Whatever it finds wrong is shown at `item`; errors of this script go on.
local function guarded(item, read, ...)
    local fine, result = pcall(read, ...)
    if fine then
        return result
    end
    if getmetatable(result) ~= Wrong then
        error(result, 0)
    end
    item:add(f["malformed"], result.kind):set_generated()
    item:add_proto_expert_info(malformed_expert, "Malformed: " .. result.kind)
    return nil, result.kind
end

-- A part of a datagram that is read from its beginning and never beyond its end.

local Cursor = {}
Cursor.__index = Cursor

local function cursor(tvb, at, stop)
    return setmetatable({ tvb = tvb, at = at, stop = stop }, Cursor)
end

function Cursor:left()
    return self.stop - self.at
end

-- The next bytes, at least one.
function Cursor:take(count)
    if count > self:left() then
        wrong("truncated")
    end
    local range = self.tvb:range(self.at, count)
    self.at = self.at + count
    return range
end

-- All that is left, or nil.
function Cursor:rest()
    if self:left() == 0 then
        return nil
    end
    return self:take(self:left())
end

-- The next bytes as a field; returns their number.
function Cursor:number(tree, name, count)
    local range = self:take(count)
    tree:add(f[name], range)
    return range:uint()
end

-- The next bytes as a time in units of so many microseconds.
function Cursor:time(tree, name, count, unit_us)
    local range = self:take(count)
    local us = range:uint() * unit_us
    tree:add(f[name], range, NSTime.new(math.floor(us / 1000000), us % 1000000 * 1000))
end

local function has_bit(byte, bit)
    return math.floor(byte / bit) % 2 == 1
end

-- RTP and RTCP go to Wireshark's dissectors if their headers are whole; otherwise they are shown as bytes.

local rtp = Dissector.get("rtp")
local rtcp = Dissector.get("rtcp")

local function is_whole_rtp(bytes)
    if bytes:len() < 12 or math.floor(bytes:get_index(0) / 64) ~= 2 then
        return false
    end
    local first = bytes:get_index(0)
    local needed = 12 + 4 * (first % 16)
    if has_bit(first, 16) then
        if bytes:len() < needed + 4 then
            return false
        end
        needed = needed + 4 + 4 * (bytes:get_index(needed + 2) * 256 + bytes:get_index(needed + 3))
    end
    local padding = has_bit(first, 32) and bytes:get_index(bytes:len() - 1) or 0
    return needed + padding <= bytes:len() and not (has_bit(first, 32) and padding == 0)
end

local function is_whole_rtcp(bytes)
    local at = 0
    while at + 4 <= bytes:len() do
        if math.floor(bytes:get_index(at) / 64) ~= 2 then
            return false
        end
        at = at + 4 + 4 * (bytes:get_index(at + 2) * 256 + bytes:get_index(at + 3))
    end
    return at == bytes:len() and at > 0
end

local function show_packet(range, pinfo, tree, is_rtcp)
    local bytes = range:bytes()
    local whole = is_rtcp and is_whole_rtcp(bytes) or not is_rtcp and is_whole_rtp(bytes)
    tree:add(f["packet"], range)
    if whole then
        -- What it throws is about its own bytes, and it has shown it.
        pcall(function()
            (is_rtcp and rtcp or rtp):call(range:tvb(), pinfo, tree)
        end)
    end
end

-- Destination sets (SPEC section 5): exactly one encoding is right.

local function nodes_of_map(range, base_node, nodes)
    local bytes = range:bytes()
    for place = 0, bytes:len() - 1 do
        local byte = bytes:get_index(place)
        for bit = 0, 7 do
            if has_bit(byte, 2 ^ bit) then
                nodes[#nodes + 1] = { base_node + 8 * place + bit, range:range(place, 1) }
            end
        end
    end
    return bytes:get_index(bytes:len() - 1)
end

local function nodes_of_list(range, nodes)
    if range:len() % 2 ~= 0 then
        wrong("destinations")
    end
    for at = 0, range:len() - 2, 2 do
        local node = range:range(at, 2):uint()
        if #nodes > 0 and nodes[#nodes][1] >= node then
            wrong("destinations")
        end
        nodes[#nodes + 1] = { node, range:range(at, 2) }
    end
end

local function nodes_of_blocks(range, nodes)
    local at, last = 0, -1
    while at < range:len() do
        if at + 3 > range:len() then
            wrong("destinations")
        end
        local block, count = range:range(at, 1):uint(), range:range(at + 1, 1):uint()
        if block <= last or count < 1 or count > 32 or at + 2 + count > range:len() then
            wrong("destinations")
        end
        if nodes_of_map(range:range(at + 2, count), 256 * block, nodes) == 0 then
            wrong("destinations")
        end
        at, last = at + 2 + count, block
    end
end

-- The form that the SPEC's rules give to these nodes.
local function canonical_form(nodes)
    local list, blocks, last_of_block = 2 * #nodes, 0, {}
    for _, node in ipairs(nodes) do
        last_of_block[math.floor(node[1] / 256)] = math.floor(node[1] % 256 / 8)
    end
    for _, last in pairs(last_of_block) do
        blocks = blocks + 2 + last + 1
    end
    local highest = nodes[#nodes][1]
    local map = highest < SET_NODES_OF_BIT_MAP and math.floor(highest / 8) + 1 or math.huge
    if map < list and map <= blocks then
        return 1
    end
    return list <= blocks and 0 or 2
end

local function read_destinations(body, tree)
    local head = body:take(1)
    local form, length = math.floor(head:uint() / 64), head:uint() % 64 + 1
    local range = body:take(length)
    local set = tree:add(f["destinations"], range)
    set:add(f["destinations.form"], head)
    set:add(f["destinations.length"], head)
    local nodes = {}
    if form == 0 then
        nodes_of_list(range, nodes)
    elseif form == 1 then
        if length > 32 or nodes_of_map(range, 0, nodes) == 0 then
            wrong("destinations")
        end
    elseif form == 2 then
        nodes_of_blocks(range, nodes)
    else
        wrong("destinations")
    end
    local numbers = {}
    for place, node in ipairs(nodes) do
        set:add(f["destinations.node"], node[2], node[1])
        numbers[place] = node[1]
    end
    if canonical_form(nodes) ~= form then
        wrong("destinations")
    end
    set:set_text("Destination set, " .. FORMS[form] .. ": " .. table.concat(numbers, " "))
    return numbers
end

-- Bodies of frames. Each returns what the frame is about, in a few words.

local readers = {}

local function read_stream(body, tree)
    local room = body:number(tree, "stream.room", 4)
    local user = body:number(tree, "stream.user", 4)
    local stream = body:number(tree, "stream.stream", 2)
    return string.format("%d/%d/%d", room, user, stream)
end

readers[MEDIA] = function(body, tree, pinfo)
    local stream = read_stream(body, tree)
    body:number(tree, "media.incarnation", 1)
    local sequence = body:number(tree, "media.sequence", 4)
    body:time(tree, "media.slack", 2, 100)
    local urgency = body:take(1)
    tree:add(f["media.priority"], urgency)
    tree:add(f["media.hop_limit"], urgency)
    body:number(tree, "media.epoch", 2)
    local flags = body:take(1)
    for _, name in ipairs({ "plane", "marked", "rtcp", "protected", "policy" }) do
        tree:add(f["media." .. name], flags)
    end
    local numbers = read_destinations(body, tree)
    local packet = body:rest() or wrong("truncated")
    local plane = math.floor(flags:uint() / 64)
    if plane == 3 then
        wrong("field")
    end
    local is_rtcp = has_bit(flags:uint(), 16)
    show_packet(packet, pinfo, tree, is_rtcp)
    local words = { stream, "#" .. sequence }
    if is_rtcp then
        words[#words + 1] = "RTCP"
    end
    if plane ~= 0 then
        words[#words + 1] = PLANES[plane]
    end
    if has_bit(flags:uint(), 32) then
        words[#words + 1] = "marked"
    end
    words[#words + 1] = "to " .. table.concat(numbers, ",")
    return table.concat(words, " ")
end

readers[2] = function(body, tree)
    local flags = body:take(1)
    for _, name in ipairs({ "repairs", "echo", "in_use" }) do
        tree:add(f["heartbeat." .. name], flags)
    end
    local highest = body:number(tree, "heartbeat.highest", 4)
    local received = body:number(tree, "heartbeat.received", 4)
    if has_bit(flags:uint(), 2) then
        body:time(tree, "heartbeat.echo_time", 3, 10)
        body:time(tree, "heartbeat.echo_delay", 3, 10)
    else
        body:take(6)
    end
    body:time(tree, "heartbeat.jitter", 2, 10)
    -- Each group is there as a whole, or the body ends before it.
    if body:left() >= 6 then
        body:number(tree, "heartbeat.probes_sent", 2)
        body:number(tree, "heartbeat.probes_received", 2)
        body:number(tree, "heartbeat.large_received", 2)
    end
    if body:left() >= 6 then
        body:time(tree, "heartbeat.queueing_delay", 2, 10)
        body:number(tree, "heartbeat.bytes_received", 4)
    end
    if body:left() >= 6 then
        body:number(tree, "heartbeat.media_through", 2)
        body:number(tree, "heartbeat.media_sent", 4)
    end
    return string.format("of %d, highest %d", received, highest)
end

readers[3] = function(body, tree)
    local ingress = body:number(tree, "keyframe_request.ingress", 2)
    local stream = read_stream(body, tree)
    body:number(tree, "keyframe_request.hop_limit", 1)
    return stream .. " to " .. ingress
end

readers[EDGE] = function(body, tree, pinfo)
    local handle = body:number(tree, "edge.handle", 2)
    local sequence = body:number(tree, "edge.sequence", 4)
    body:time(tree, "edge.slack", 2, 100)
    local flags = body:take(1)
    tree:add(f["edge.priority"], flags)
    tree:add(f["edge.rtcp"], flags)
    local packet = body:rest() or wrong("truncated")
    local is_rtcp = has_bit(flags:uint(), 1)
    show_packet(packet, pinfo, tree, is_rtcp)
    return string.format("%d #%d%s", handle, sequence, is_rtcp and " RTCP" or "")
end

readers[5] = function(body, tree)
    return tostring(body:number(tree, "edge_keyframe_request.handle", 2))
end

-- Halves by link, direction and id; the frame that both make stands with the second. Made anew with each file.
local halves, halves_kept = {}, 0
local rejoined = {}
local dissect_frame

function cascade.init()
    halves, halves_kept = {}, 0
    rejoined = {}
end

readers[FRAGMENT] = function(body, tree, pinfo, place)
    local id = body:number(tree, "fragment.id", 2)
    local flags = body:take(1)
    tree:add(f["fragment.second"], flags)
    local share = body:rest() or wrong("truncated")
    tree:add(f["fragment.share"], share)
    local second = has_bit(flags:uint(), 1)
    local words = string.format("%d, %s half", id, second and "second" or "first")
    if not place.link then
        return words
    end
    local key, here = place.link .. "/" .. id, pinfo.number .. "/" .. place.at
    if not pinfo.visited then
        if not second then
            if halves_kept >= FRAGMENTS_KEPT then
                halves, halves_kept = {}, 0
            end
            halves_kept = halves_kept + (halves[key] and 0 or 1)
            halves[key] = share:bytes()
        elseif halves[key] then
            local whole = ByteArray.new()
            whole:append(halves[key])
            whole:append(share:bytes())
            rejoined[here] = whole
            halves[key] = nil
            halves_kept = halves_kept - 1
        end
    end
    local whole = rejoined[here]
    if whole then
        local tvb = ByteArray.tvb(whole, "Rejoined frame")
        local inner, kind = cursor(tvb, 0, tvb:len()), nil
        local joined = tree:add(cascade, tvb:range(), "Rejoined frame")
        local _, what = guarded(joined, function()
            kind = dissect_frame(inner, joined, pinfo, { nested = true, rejoined = true })
            if inner:left() > 0 then
                wrong("truncated")
            end
        end)
        if not what and kind then
            words = words .. ": " .. kind
        end
    end
    return words
end

readers[7] = function(body, tree)
    local kind = body:number(tree, "mtu_probe.kind", 1)
    local bytes = body:number(tree, "mtu_probe.bytes", 2)
    body:number(tree, "mtu_probe.count", 2)
    return string.format("%s, %d bytes", ASKS[kind] or wrong("field"), bytes)
end

readers[8] = function(body, tree)
    local kind = body:number(tree, "path_challenge.kind", 1)
    tree:add(f["path_challenge.token"], body:take(8))
    return ASKS[kind] or wrong("field")
end

readers[9] = function(body, tree)
    tree:add(f["repair_request.silent"], body:take(1))
    local through = body:number(tree, "repair_request.through", 4)
    if body:left() % 3 ~= 0 then
        wrong("truncated")
    end
    if body:left() > 3 * RANGES_MAX then
        wrong("field")
    end
    local below, missing, sum = through + 1, {}, 0
    while body:left() > 0 do
        local gap = body:number(tree, "repair_request.gap", 2)
        local count = body:number(tree, "repair_request.count", 1)
        if count == 0 then
            wrong("field")
        end
        -- Modulo 2^32: what a range below zero means, only the receiver knows.
        local first = below - gap - count
        missing[#missing + 1] = count == 1 and string.format("%d", first % 2 ^ 32)
            or string.format("%d-%d", first % 2 ^ 32, (first + count - 1) % 2 ^ 32)
        below, sum = first, sum + count
    end
    if #missing > 0 then
        tree:add(f["repair_request.missing"], table.concat(missing, " ")):set_generated()
    end
    return string.format("%d missing through %d", sum, through)
end

readers[PARITY] = function(body, tree)
    local row = body:number(tree, "parity.row", 1)
    local map_bytes = body:number(tree, "parity.map_bytes", 1)
    local first = body:number(tree, "parity.base", 4)
    if row >= PARITY_ROWS or map_bytes == 0 or map_bytes > PARITY_MAP_BYTES_MAX then
        wrong("field")
    end
    if body:left() <= map_bytes + 2 then
        wrong("truncated")
    end
    local map = body:take(map_bytes)
    tree:add(f["parity.map"], map)
    local covered = {}
    local last = nodes_of_map(map, 0, covered)
    if #covered == 0 or covered[1][1] ~= 0 or last == 0 or #covered > PARITY_COVERED_MAX then
        wrong("field")
    end
    for _, number in ipairs(covered) do
        tree:add(f["parity.covers"], number[2], (first + number[1]) % 2 ^ 32):set_generated()
    end
    tree:add(f["parity.sum"], body:rest())
    return string.format("row %d over %d from %d", row, #covered, first)
end

local dissect_plain

readers[REPAIR] = function(body, tree, pinfo, place)
    local number = body:number(tree, "repair.number", 4)
    if body:left() <= 3 then
        wrong("truncated")
    end
    local words = dissect_plain(body, tree, pinfo, { nested = true, repaired = true, link = place.link })
    return string.format("of %d: %s", number, words)
end

-- One frame; the cursor stands at its type. Returns what it is in a few words, and its type.
function dissect_frame(at, tree, pinfo, place)
    local start = at.at
    local head = at:take(2)
    local kind, length = math.floor(head:uint() / 2048), head:uint() % 2048
    if length > at:left() then
        wrong("truncated")
    end
    local name = TYPES[kind] or "unknown type " .. kind
    local frame = tree:add(f["frame"], at.tvb:range(start, 2 + length))
    frame:set_text(name)
    local prefix = place.nested and "repaired." or "frame."
    frame:add(f[prefix .. "type"], head)
    frame:add(f[prefix .. "length"], head)
    local body = cursor(at.tvb, at.at, at.at + length)
    at.at = body.stop
    -- In a repair media alone is handled, and both halves of a frame are media or an edge frame.
    local refused = place.repaired and (kind == REPAIR or kind == PARITY)
        or place.rejoined and kind ~= MEDIA and kind ~= EDGE
    local read = readers[kind]
    if not read or refused then
        if refused then
            frame:add_proto_expert_info(refused_expert)
        else
            frame:add_proto_expert_info(unknown_expert)
        end
        if length > 0 then
            frame:add(f["frame.body"], body:rest())
        end
        return name, kind
    end
    local here = { link = place.link, at = start }
    local words = guarded(frame, read, body, frame, pinfo, here)
    if not words then
        name = "malformed " .. name
        frame:set_text(name)
        return name, kind
    end
    if body:left() > 0 then
        frame:add(f["frame.rest"], body:rest())
    end
    frame:set_text(name .. " " .. words)
    return name .. " " .. words, kind
end

-- Send time, frames, padding. Returns the datagram in a few words: of frames of one type that follow each other the first.
function dissect_plain(at, tree, pinfo, place)
    local prefix = place.nested and "repaired." or ""
    at:time(tree, prefix .. "send_time", 3, 10)
    local words, last, repeated = {}, nil, 0
    local function close()
        if repeated > 1 then
            words[#words] = string.format("%s (x%d)", words[#words], repeated)
        end
    end
    while at:left() > 0 do
        if at.tvb:range(at.at, 1):uint() == 0 then
            tree:add(f[prefix .. "padding"], at:rest())
            break
        end
        local about, kind
        local _, what = guarded(tree, function()
            about, kind = dissect_frame(at, tree, pinfo, place)
        end)
        if what then
            -- A length that is not there ends the datagram.
            close()
            words[#words + 1], last, repeated = "malformed: " .. what, nil, 0
            at.at = at.stop
            break
        end
        if kind == last then
            repeated = repeated + 1
        else
            close()
            words[#words + 1], last, repeated = about, kind, 1
        end
    end
    close()
    return #words > 0 and table.concat(words, "; ") or "no frames"
end

-- Messages of the reliable stream (SPEC section 9), in bincode 2. Whatever does not decode is "malformed".

local function byte(body)
    if body:left() < 1 then
        wrong("malformed")
    end
    return body:take(1)
end

-- A variable-length integer of so many bytes at most, and its range.
local function varint(body, bytes_max)
    local start = body.at
    local first = byte(body):uint()
    local widths = { [251] = 2, [252] = 4, [253] = 8 }
    local value = first
    if first >= 251 then
        local width = widths[first]
        if not width or width > bytes_max or width > body:left() then
            wrong("malformed")
        end
        local range = body:take(width)
        value = width == 8 and range:le_uint64():tonumber() or range:le_uint()
    end
    return value, body.tvb:range(start, body.at - start)
end

local function is_utf8(text)
    local at = 1
    while at <= #text do
        local first = text:byte(at)
        local follow, least
        if first < 0x80 then
            follow, least = 0, 0
        elseif first >= 0xC2 and first < 0xE0 then
            follow, least = 1, 0x80
        elseif first >= 0xE0 and first < 0xF0 then
            follow, least = 2, 0x800
        elseif first >= 0xF0 and first < 0xF5 then
            follow, least = 3, 0x10000
        else
            return false
        end
        local code = first % 2 ^ (follow == 0 and 7 or 6 - follow)
        for place = at + 1, at + follow do
            local byte_there = text:byte(place)
            if not byte_there or byte_there < 0x80 or byte_there >= 0xC0 then
                return false
            end
            code = code * 64 + byte_there % 64
        end
        if code < least or code > 0x10FFFF or code >= 0xD800 and code < 0xE000 then
            return false
        end
        at = at + 1 + follow
    end
    return true
end

local said = {}

local function integer(bytes_max)
    return function(body, tree, name)
        local value, range = varint(body, bytes_max)
        tree:add(f["session." .. name], range, value)
        return value
    end
end

said.u16 = integer(2)
said.u32 = integer(4)

function said.u8(body, tree, name)
    tree:add(f["session." .. name], byte(body))
end

local function choice(names)
    return function(body, tree, name)
        local value = said.u32(body, tree, name)
        return names[value] and value or wrong("malformed")
    end
end

said.cipher = choice(CIPHERS)
said.kind = choice(KINDS)
said.code = choice(CODES)

local function text_of(body)
    local start = body.at
    local length = varint(body, 8)
    if length > body:left() then
        wrong("malformed")
    end
    local text = length > 0 and body:take(length):raw() or ""
    if not is_utf8(text) then
        wrong("malformed")
    end
    return text, body.tvb:range(start, body.at - start)
end

function said.text(body, tree, name)
    local text, range = text_of(body)
    tree:add(f["session." .. name], range, text)
    return text
end

local function option(read)
    return function(body, tree, name)
        local there = byte(body):uint()
        if there > 1 then
            wrong("malformed")
        end
        return there == 1 and read(body, tree, name) or nil
    end
end

said.u32_option = option(said.u32)
said.text_option = option(said.text)

local function list(read)
    return function(body, tree, name)
        -- An item has a byte at least.
        local count = varint(body, 8)
        if count > body:left() then
            wrong("malformed")
        end
        for _ = 1, count do
            read(body, tree, name)
        end
    end
end

said.u32_list = list(said.u32)
said.cipher_list = list(said.cipher)

-- Nobody else is to read a token or a key: its length is told.
local function secret(tree, range, count)
    tree:add(f["session.secret"], range, string.format("%d bytes", count))
end

function said.role(body, tree)
    local role = said.u32(body, tree, "role")
    if role == 0 then
        said.u16(body, tree, "node")
    elseif role == 1 then
        local text, range = text_of(body)
        secret(tree, range, #text)
    else
        wrong("malformed")
    end
end

function said.key(body, tree)
    if body:left() < 16 then
        wrong("malformed")
    end
    secret(tree, body:take(16), 16)
end

local PUBLISH = {
    { "u32", "request" },
    { "text", "room" },
    { "text", "user" },
    { "text", "stream" },
    { "kind", "kind" },
    { "u32_option", "budget_ms" },
}
local SAYS = {
    [0] = {
        { "u8", "version_lowest" },
        { "u8", "version_highest" },
        { "u32", "receiver" },
        { "cipher_list", "cipher" },
        { "u16", "max_datagram" },
        { "role", "role" },
    },
    [1] = { { "u8", "version" }, { "u32", "receiver" }, { "cipher", "cipher" }, { "u16", "max_datagram" } },
    [2] = { { "u32_option", "request" }, { "code", "code" }, { "text", "reason" } },
    [3] = PUBLISH,
    [4] = { { "u32", "request" }, { "u16", "handle" } },
    [5] = { { "u32", "request" } },
    [6] = { { "u32", "request" }, { "text", "room" }, { "text_option", "user" }, { "text_option", "stream" } },
    [7] = { { "u32", "request" } },
    [8] = { { "u32", "request" } },
    [9] = {
        { "u16", "handle" },
        { "u32_list", "subscription" },
        { "text", "room" },
        { "text", "user" },
        { "text", "stream" },
        { "kind", "kind" },
        { "u8", "incarnation" },
    },
    [10] = { { "u16", "handle" } },
    [11] = {},
    [12] = { { "u32_list", "receiver" } },
    [13] = PUBLISH,
    [14] = { { "key", "key" } },
}

local function read_message(body, tree)
    local number, range = varint(body, 4)
    tree:add(f["session.message"], range, number)
    local words = { MESSAGES[number] or wrong("malformed") }
    for _, part in ipairs(SAYS[number]) do
        local value = said[part[1]](body, tree, part[2])
        if part[1] == "text" or part[1] == "text_option" or part[2] == "request" or part[2] == "handle" then
            words[#words + 1] = value and tostring(value) or nil
        end
    end
    if body:left() > 0 then
        wrong("malformed")
    end
    return table.concat(words, " ")
end

local function dissect_session(at, tree)
    local length = at:number(tree, "session.length", 4)
    if length > MESSAGE_BYTES_MAX then
        wrong("too-long")
    end
    if length == 0 then
        tree:add(f["session.ready"], true):set_generated()
        return "ready sign"
    end
    local body = cursor(at.tvb, at.at, at.at + math.min(length, at:left()))
    if at:left() < length then
        wrong("truncated")
    end
    at.at = body.stop
    local words = read_message(body, tree)
    if at:left() > 0 then
        tree:add(f["frame.rest"], at:rest())
    end
    return words
end

-- The record before what the simulator writes (SPEC section 14). Returns who sends on which link, and the fate.

local function dissect_record(at, tree)
    local range = at:take(RECORD_BYTES)
    local record = tree:add(f["capture"], range)
    record:add(f["capture.version"], range:range(1, 1))
    record:add(f["capture.direction"], range:range(2, 1))
    record:add(f["capture.copied"], range:range(2, 1))
    record:add(f["capture.fate"], range:range(3, 1))
    if range:range(1, 1):uint() ~= RECORD_VERSION then
        wrong("field")
    end
    local fate = range:range(3, 1):uint()
    local lost = fate ~= 0
    if lost then
        -- Where nothing is lost the field is not there, so that its name alone is a filter.
        local item = record:add(f["capture.lost"], range:range(3, 1), true)
        item:set_generated()
        item:add_proto_expert_info(lost_expert)
    end
    record:add(f["capture.link"], range:range(4, 4))
    record:add(f["capture.number"], range:range(8, 8))
    if not lost then
        local took = range:range(16, 8):uint64()
        local seconds = (took / UInt64(1000000000)):tonumber()
        record:add(f["capture.took"], range:range(16, 8), NSTime.new(seconds, (took % UInt64(1000000000)):tonumber()))
    end
    for place, name in ipairs({ "from_node", "to_node" }) do
        local node = range:range(22 + 2 * place, 2)
        if node:uint() ~= 0xFFFF then
            record:add(f["capture." .. name], node)
        end
    end
    record:add(f["capture.lane"], range:range(28, 1))
    local number = range:range(8, 8):uint64()
    record:set_text("Record of the simulator: number " .. tostring(number) .. ", " .. (FATES[fate] or "fate unknown"))
    local link = range:range(4, 4):uint() .. "/" .. range:range(2, 1):uint() % 2
    return link, number, lost and (FATES[fate] or "lost")
end

local function dissect_opened(tvb, pinfo, tree, dissect)
    local at = cursor(tvb, 0, tvb:len())
    local words
    local _, what = guarded(tree, function()
        local link, number, lost = dissect_record(at, tree)
        local start = (lost and "[" .. lost .. "] " or "") .. "#" .. tostring(number) .. " "
        words = start
        words = start .. dissect(at, tree, pinfo, { link = link })
    end)
    if what then
        words = (words or "") .. "malformed: " .. what
    end
    return words
end

local function dissect_sealed(tvb, tree)
    local at = cursor(tvb, 0, tvb:len())
    local words
    local _, what = guarded(tree, function()
        local head = at:take(1)
        tree:add(f["sealed.reserved"], head)
        tree:add(f["sealed.key_phase"], head)
        local receiver = at:number(tree, "sealed.receiver", 4)
        local number = at:take(8)
        tree:add(f["sealed.number"], number)
        if head:uint() % 8 > 1 then
            wrong("field")
        end
        if at:left() < 16 then
            wrong("truncated")
        end
        if at:left() > 16 then
            tree:add(f["sealed.ciphertext"], at:take(at:left() - 16))
        end
        tree:add(f["sealed.tag"], at:take(16))
        words = string.format("sealed, to %08x, #%s", receiver, tostring(number:uint64()))
    end)
    return words or "malformed: " .. what
end

local function other(name)
    local fine, dissector = pcall(Dissector.get, name)
    return fine and dissector or nil
end
local quic, stun = other("quic"), other("stun-udp")

-- By its first byte, as SPEC section 1 has it.
function cascade.dissector(tvb, pinfo, tree)
    if tvb:reported_length_remaining() == 0 or tvb:len() == 0 then
        return 0
    end
    local first = tvb:range(0, 1):uint()
    local dissector = first < 0x04 and stun
        or first >= 0x80 and first < 0xC0 and rtp
        or (has_bit(first, 64)) and quic
    if dissector then
        -- What it throws is about its own bytes, and it has shown it.
        pcall(function()
            dissector:call(tvb, pinfo, tree)
        end)
        return tvb:len()
    end
    local name, words
    local item = tree:add(cascade, tvb:range())
    if first == 0x04 then
        name, words = "Cascade", dissect_opened(tvb, pinfo, item, dissect_plain)
    elseif first == 0x05 then
        name, words = "Cascade session", dissect_opened(tvb, pinfo, item, dissect_session)
    elseif first >= 0x08 and first < 0x10 then
        name, words = "Cascade", dissect_sealed(tvb, item)
    else
        name, words = "Cascade", "dropped: nothing begins with this byte"
    end
    item:set_text(name .. ", " .. words)
    -- After the dissectors of what is inside, which have columns of their own.
    pinfo.cols.protocol = name
    pinfo.cols.info = words
    return tvb:len()
end

local ports = DissectorTable.get("udp.port")
ports:add(PORT, cascade)
ports:add_for_decode_as(cascade)
