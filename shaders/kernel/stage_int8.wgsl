// stage_int8:   for col, i: codes = round(half(x) * (127 / absmax)), absmax = max over i of |half(x)| below the threshold; outliers 0
//
// 1. One workgroup does one column. Its codes lie as those of `stage_q8`, with the same scale for every chunk.
// 2. 127 * (1 / absmax) is rounded twice, as bitsandbytes has it. WGSL allows quotients to be off: integers do both.
// Twin: src/kernel/llm_int8.rs.
// Needs: WORKGROUP.

@group(0) @binding(3) var<storage, read> x: array<f32>;              // [batch, k]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<u32>>;  // [batch, chunks, 3]: codes; codes; scale, sums of 16 codes each, absmax
@group(0) @binding(6) var<storage, read> routes: array<u32>;         // [chunks] mask of the outlier features

var<workgroup> tops: array<u32, WORKGROUP>;

// The activation as f16 has it, at most the largest there is.
fn value(first: u32, k: u32) -> f32 {
    return clamp(half_value(x[first + k]), -65504.0, 65504.0);
}

// 127 times the reciprocal of a positive f16 v, each rounded to even.
fn scale_of(v: f32) -> f32 {
    let bits = bitcast<u32>(v);
    let m = ((bits >> 13u) & 0x3ffu) | 0x400u;  // v = m 2^(e - 137)
    let e = bits >> 23u;
    // floor(2^35 / m) in two steps that fit 32 bits: 25 bits, or 2^25. No reciprocal is a tie, so the last bit decides.
    let high = (1u << 22u) / m;
    let rest = ((1u << 22u) % m) << 13u;
    let reciprocal = (((high << 13u) | (rest / m)) + 1u) >> 1u;
    let p = reciprocal * 127u;
    // From 30 or 31 bits to 24, ties to even.
    let shift = 6u + (p >> 30u);
    let kept = p >> shift;
    let tail = p & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    let up = u32(tail > half || (tail == half && (kept & 1u) == 1u));
    // kept 2^(shift - 34) 2^(137 - e); kept may have become 2^24, which the sum carries into the exponent.
    return bitcast<f32>(((127u + 23u + shift - 34u + 137u - e) << 23u) + (kept + up - (1u << 23u)));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let col = group_index(group, grid);
    if (col >= params.batch) {
        return;
    }
    let first = params.x_offset + col * params.x_stride;
    var top = 0u;
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        if (!is_outlier(half_value(x[first + k]))) {
            top = max(top, bitcast<u32>(abs(value(first, k))));
        }
    }
    tops[lane] = top;
    workgroupBarrier();
    for (var i = 0u; i < WORKGROUP; i++) {
        top = max(top, tops[i]);
    }
    let absmax = bitcast<f32>(top);
    let scale = select(0.0, scale_of(absmax), top > 0u);
    let step = bitcast<u32>(absmax * (1.0 / 127.0));
    for (var chunk = lane; chunk < params.chunk_end; chunk += WORKGROUP) {
        let outliers = select(0u, routes[chunk], params.threshold > 0.0);
        var codes: array<u32, 8>;
        var sums = vec2<i32>(0);
        for (var j = 0u; j < 32u; j++) {
            let k = chunk * 32u + j;
            if (k < params.cols && ((outliers >> j) & 1u) == 0u) {
                let q = i32(round(value(first, k) * scale));
                codes[j >> 2u] |= (bitcast<u32>(q) & 255u) << (8u * (j & 3u));
                sums[j >> 4u] += q;
            }
        }
        let to = (params.y_offset + col * params.y_stride) / 4u + chunk * 3u;
        y[to] = vec4<u32>(codes[0], codes[1], codes[2], codes[3]);
        y[to + 1u] = vec4<u32>(codes[4], codes[5], codes[6], codes[7]);
        y[to + 2u] = vec4<u32>(step, bitcast<vec2<u32>>(sums), top);
    }
}
