// outlier_mask:   for chunk, bit: mask[chunk] bit = any over token of |half(x[token, 32 chunk + bit])| >= threshold
//
// One workgroup does one chunk; its lanes are 32 features by some tokens.
// Needs: WORKGROUP, a multiple of 32.

struct Params {
    cols: u32,       // k
    x_offset: u32,   // element of x where token 0 starts
    x_stride: u32,   // elements from one token to the next
    groups: u32,     // chunks of 32 features
    accumulate: u32, // 1: add to the mask that is there
    threshold: f32,  // where outliers begin, 0 for never
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<u32>;  // [chunks]

var<workgroup> bits: atomic<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let chunk = group_index(group, grid);
    if (chunk >= params.groups) {
        return;
    }
    if (lane == 0u) {
        atomicStore(&bits, select(0u, y[chunk], params.accumulate == 1u));
    }
    workgroupBarrier();
    let k = chunk * 32u + lane % 32u;
    if (k < params.cols) {
        var found = false;
        for (var token = lane / 32u; token < span.count; token += WORKGROUP / 32u) {
            found = found || is_outlier(half_value(input(params.x_offset + (span.first + token) * params.x_stride + k)));
        }
        atomicOr(&bits, select(0u, 1u << (lane % 32u), found));
    }
    workgroupBarrier();
    if (lane == 0u) {
        y[chunk] = atomicLoad(&bits);
    }
}
