// outlier_mask:   for chunk, bit: mask[chunk] bit = any over col of |half(x[col, 32 chunk + bit])| >= threshold
//
// One workgroup does one chunk; its lanes are 32 features by some columns of the batch.
// Needs: WORKGROUP, a multiple of 32.

@group(0) @binding(3) var<storage, read> x: array<f32>;        // [batch, k]
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
        for (var col = lane / 32u; col < params.batch; col += WORKGROUP / 32u) {
            found = found || is_outlier(half_value(x[params.x_offset + col * params.x_stride + k]));
        }
        atomicOr(&bits, select(0u, 1u << (lane % 32u), found));
    }
    workgroupBarrier();
    if (lane == 0u) {
        y[chunk] = atomicLoad(&bits);
    }
}
