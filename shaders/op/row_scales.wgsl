// row_scales:   for row: y[row] = the power of two that brings the largest weight of the row below
// 2^15
//
// Of a row of zeros it is 1: its codes may have any scale, which is taken times the inverse.
// One workgroup does one row at a time. For kernels that round weights to f16. Needs: WORKGROUP.

struct Params {
    plane_offset: vec4<u32>, // first word of each plane
    plane_stride: vec4<u32>, // words from one row of the plane to the next
    cols: u32,               // k
    groups: u32,             // rows of the shard
    chunk_end: u32,          // chunks of 32 features
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [rows]

var<workgroup> tops: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    decode_init(lane);
    // More rows than workgroups: on devices that allow few.
    for (var row = group_index(group, grid); row < params.groups; row += grid.x * grid.y) {
        var top = vec4<f32>(0.0);
        for (var chunk = lane; chunk < params.chunk_end; chunk += WORKGROUP) {
            let weights = decode32(row, chunk * 32u);
            for (var i = 0u; i < 8u; i++) {
                top = max(top, abs(weights[i]));
            }
        }
        tops[lane] = max(max(top.x, top.y), max(top.z, top.w));
        workgroupBarrier();
        if (lane == 0u) {
            var most = 0.0;
            for (var i = 0u; i < WORKGROUP; i++) {
                most = max(most, tops[i]);
            }
            let e = select(clamp(bitcast<u32>(most) >> 23u, 30u, 254u), 141u, most == 0.0);
            y[row] = bitcast<f32>((e - 14u) << 23u);
        }
        workgroupBarrier();
    }
}
