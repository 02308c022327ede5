// quantize_activations_int8_one:   outlier_mask, outlier_list, quantize_activations_int8 and
// gather_outliers for one column of the batch
//
// One workgroup does it all, so that nothing waits for another dispatch. Each lane has a run of
// chunks: it counts their outliers, then knows where in the list they go.
// Needs: WORKGROUP.

struct Params {
    cols: u32,      // k
    chunk_end: u32, // chunks of 32 features
    x_offset: u32,  // element of x where token 0 starts
    list: u32,      // word of y where the count is
    values: u32,    // word of y where the outliers are
    threshold: f32, // where outliers begin, 0 for never
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<u32>;  // codes as of quantize_activations_int8; at params.list: count, 0, 0, 0, list; at params.values: the outliers, f32

var<workgroup> counts: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
    let run = (params.chunk_end + WORKGROUP - 1u) / WORKGROUP;
    let begin = min(lane * run * 32u, params.cols);
    let end = min(begin + run * 32u, params.cols);
    var top = 0u;
    var count = 0u;
    for (var k = begin; k < end; k++) {
        let v = input(params.x_offset + k);
        let outlier = is_outlier(half_value(v));
        count += u32(outlier);
        top = max(top, select(magnitude(v), 0u, outlier));
    }
    counts[lane] = count;
    top = largest(lane, top);
    var total = 0u;
    var mine = 0u;
    for (var i = 0u; i < WORKGROUP; i++) {
        total += counts[i];
        mine += select(0u, counts[i], i < lane);
    }
    let inverse = reciprocal(top);
    let scale = bitcast<u32>(bitcast<f32>(top) * (1.0 / 127.0));
    let list = params.list + 4u;
    for (var chunk = begin / 32u; chunk * 32u < end; chunk++) {
        var codes: array<u32, 8>;
        var sums = vec2<i32>(0);
        for (var j = 0u; j < 32u; j++) {
            let k = chunk * 32u + j;
            let v = select(0.0, input(params.x_offset + min(k, params.cols - 1u)), k < params.cols);
            if (is_outlier(half_value(v))) {
                y[list + mine] = k;
                y[params.values + mine] = bitcast<u32>(v);
                mine += 1u;
            } else {
                let q = code(v, inverse);
                codes[j >> 2u] |= (bitcast<u32>(q) & 255u) << (8u * (j & 3u));
                sums += select(vec2<i32>(0, q), vec2<i32>(q, 0), j < 16u);
            }
        }
        for (var i = 0u; i < 8u; i++) {
            y[4u * code_place(chunk, i >> 2u, 3u) + (i & 3u)] = codes[i];
        }
        let to = 4u * code_place(chunk, 2u, 3u);
        y[to] = scale;
        y[to + 1u] = bitcast<u32>(sums.x);
        y[to + 2u] = bitcast<u32>(sums.y);
        y[to + 3u] = top;
    }
    // What fills up the last chunk of the list is multiplied by zero.
    if (lane < (32u - total % 32u) % 32u) {
        y[list + total + lane] = 0u;
        y[params.values + total + lane] = 0u;
    }
    if (lane == 0u) {
        y[params.list] = total;
    }
}
