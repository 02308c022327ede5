// quantize_activations_int8_f32:   for token, i: y[token, i] = x[token, i] for outliers, else codes *
// absmax / 127 with codes as of quantize_activations_int8
//
// For adapters that multiply f32 faster than bytes: the numbers that codes stand for, so that one
// product does for all. One workgroup does one column. A feature is an outlier if the mask of the
// batch says so; of a batch of one column, if it is one itself.
// Needs: WORKGROUP.

struct Params {
    cols: u32,      // k
    x_offset: u32,  // element of x where token 0 starts
    x_stride: u32,  // elements from one token to the next
    y_stride: u32,  // elements from one token to the next
    threshold: f32, // where outliers begin, 0 for never
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [n, k]

// True if no column of the batch rounds feature k, whose value here is v.
fn is_kept(k: u32, v: f32) -> bool {
    if (MASKED == 0u) {
        return is_outlier(half_value(v));
    }
    return ((outlier_word(k >> 5u) >> (k & 31u)) & 1u) == 1u;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid);
    if (i >= span.count) {
        return;
    }
    let token = span.first + i;
    let first = params.x_offset + token * params.x_stride;
    let top = largest_inside(first, lane);
    let inverse = reciprocal(top);
    let scale = bitcast<f32>(top) * (1.0 / 127.0);
    for (var k = lane; k < params.cols; k += WORKGROUP) {
        let v = input(first + k);
        y[token * params.y_stride + k] = select(f32(code(v, inverse)) * scale, v, is_kept(k, v));
    }
}
