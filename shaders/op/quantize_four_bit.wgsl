// quantize_four_bit:   for block: top = max |w|;  for w in block: code = codes[how many pivots (w *
// (1 / top)) is above]
//
// 1. Integers alone. 1 / top is rounded in f32, and so is the product with w; the CPU's bytes show
//    both roundings. WGSL lets a division be off by 2.5 ulp, flush subnormals, and round either
//    way. So weights are compared as integers, and f32 is never touched.
// 2. Not a product for each weight: more of w is more of the product, so for each pivot there is a
//    last weight that is not above it. That `edge` is computed for each block and pivot, exactly,
//    and a weight is compared with fifteen edges in four steps.
// 3. A lane does the eight weights of a word of codes, neighbours neighbouring words.
// Twin: the tests of src/kernel/op/quantize_four_bit.rs. Needs: WORKGROUP, BLOCK_SHIFT, BLOCKS (of
// a workgroup), ROUNDS (words of a lane).

struct Params {
    cols: u32,     // weights
    groups: u32,   // workgroups that have work
    y_stride: u32, // words of codes
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;   // [cols] f32 as bits
@group(0) @binding(4) var<storage, read_write> y: array<u32>;   // codes, eight a word, the first in the high nibble of a byte; then from y_stride on: top, one a block
@group(0) @binding(5) var<storage, read> pivots: array<u32>;    // the bits of fifteen pivots, then the codes behind them, eight a word

var<workgroup> tops: array<atomic<u32>, BLOCKS>;
var<workgroup> edges: array<i32, BLOCKS * 16u>;

// The mantissa of a magnitude, as an integer: |w| = mantissa * 2^(exponent - 150).
fn mantissa(bits: u32) -> u32 {
    return select((bits & 0x7fffffu) | 0x800000u, bits, bits < 0x800000u);
}

// n * 2^16 / d and what is left, for d up to 2^24: a digit of eight bits at a time.
fn quotient(n: u32, d: u32) -> vec2<u32> {
    var q = n / d;
    var r = n % d;
    for (var i = 0u; i < 2u; i++) {
        r <<= 8u;
        q = (q << 8u) | (r / d);
        r %= d;
    }
    return vec2<u32>(q, r);
}

struct Reciprocal {
    d: u32,  // 2^23 to 2^24
    e: i32,  // 1 / top = d * 2^(e - 150)
}

// 1 / top as f32 rounds it. It is no tie where it is normal; where it is subnormal, it has one or
// two bits less.
fn reciprocal(top: u32) -> Reciprocal {
    let shift = max(countLeadingZeros(top), 8u) - 8u;
    let subnormal = top < 0x800000u;
    let e = select(i32(top >> 23u), 1 - i32(shift), subnormal);
    let m = mantissa(top) << select(0u, shift, subnormal);
    let q = quotient(0x80000000u, m);
    if (e < 253) {
        return Reciprocal(q.x + u32(2u * q.y > m), 253 - e);
    }
    let s = u32(e - 252);
    let low = q.x & ((1u << s) - 1u);
    let middle = 1u << (s - 1u);
    let up = low > middle || (low == middle && (q.y > 0u || ((q.x >> s) & 1u) == 1u));
    return Reciprocal(((q.x >> s) + u32(up)) << s, 253 - e);
}

// Weights in the order of their size; both zeros are 0.
fn key(bits: u32) -> i32 {
    let magnitude = i32(bits & 0x7fffffffu);
    return select(magnitude, -magnitude, bits >> 31u == 1u);
}

// The key of the last weight that is not above the pivot.
fn edge(top: u32, pivot: u32) -> i32 {
    let negative = pivot >> 31u == 1u;
    if (top <= 0x200000u) {
        // The reciprocal of a scale up to 2^-128 is infinite: only signs count. Nor does a block of
        // zeros have more.
        return select(0, -1, negative);
    }
    // Products round to the pivot up to b = half a step above it, and an odd pivot leaves b itself
    // to its even neighbour.
    let t = pivot & 0x7fffffffu;
    let m = mantissa(t);
    let odd = (m & 1u) == 1u;
    let b = select(2u * m + 1u, 2u * m - 1u, negative);
    let inverse = reciprocal(top);
    let shift = countLeadingZeros(b);
    let n = quotient(b << shift, inverse.d);
    // |b| / inverse = (q + something below one, if there is a rest) * 2^(x - 150)
    let wide = n.x >= 0x1000000u;
    let q = select(n.x, n.x >> 1u, wide);
    let x = i32(max(t >> 23u, 1u)) - inverse.e - i32(shift) + select(133, 134, wide);
    // No edge is beyond the largest weight, so x has no upper end.
    let s = u32(clamp(1 - x, 0, 31));
    let rest = n.y > 0u || (wide && (n.x & 1u) == 1u) || (q & ((1u << s) - 1u)) > 0u;
    let low = i32(u32(max(x - 1, 0)) * 0x800000u + (q >> s));
    return select(low - i32(odd && !rest), -(low + i32(rest || odd)), negative);
}

// The code of a weight whose block's edges begin at `base`.
fn code(bits: u32, base: u32) -> u32 {
    let k = key(bits);
    var i = select(0u, 8u, k > edges[base + 7u]);
    i += select(0u, 4u, k > edges[base + i + 3u]);
    i += select(0u, 2u, k > edges[base + i + 1u]);
    i += select(0u, 1u, k > edges[base + i]);
    return (pivots[15u + (i >> 3u)] >> (4u * (i & 7u))) & 15u;
}

// Four weights from `at` on; zeros behind the last.
fn weights(at: u32) -> vec4<u32> {
    let i = min(at, params.cols - 1u) >> 2u;
    return select(vec4<u32>(0u), x[i], vec4<u32>(at, at + 1u, at + 2u, at + 3u) < vec4<u32>(params.cols));
}

// The codes of four weights, the first in the high nibble of the low byte.
fn codes4(at: u32, base: u32) -> u32 {
    let w = weights(at);
    return (code(w.x, base) << 4u) | code(w.y, base) | (code(w.z, base) << 12u) | (code(w.w, base) << 8u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let g = group_index(group, grid);
    if (g >= params.groups) {
        return;
    }
    if (lane < BLOCKS) {
        atomicStore(&tops[lane], 0u);
    }
    workgroupBarrier();
    let first = g * ROUNDS * WORKGROUP;
    for (var i = lane; i < ROUNDS * WORKGROUP; i += WORKGROUP) {
        let at = 8u * (first + i);
        let w = max(weights(at) & vec4<u32>(0x7fffffffu), weights(at + 4u) & vec4<u32>(0x7fffffffu));
        atomicMax(&tops[(8u * i) >> BLOCK_SHIFT], max(max(w.x, w.y), max(w.z, w.w)));
    }
    workgroupBarrier();
    for (var i = lane; i < BLOCKS * 16u; i += WORKGROUP) {
        edges[i] = edge(atomicLoad(&tops[i >> 4u]), pivots[min(i & 15u, 14u)]);
    }
    let block = g * BLOCKS + lane;
    if (lane < BLOCKS && (block << BLOCK_SHIFT) < params.cols) {
        y[params.y_stride + block] = atomicLoad(&tops[lane]);
    }
    workgroupBarrier();
    for (var i = lane; i < ROUNDS * WORKGROUP; i += WORKGROUP) {
        let at = 8u * (first + i);
        let base = ((8u * i) >> BLOCK_SHIFT) * 16u;
        if (at < params.cols) {
            y[first + i] = codes4(at, base) | (codes4(at + 4u, base) << 16u);
        }
    }
}
