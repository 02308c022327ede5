// y = 2 a * b for two matrices of integers without symmetry, loaded and stored as `gemm_coop` does:
// a transposed layout gives other numbers, and so do sums in f16, which have too few bits. Needs:
// lib/coop_8.wgsl or lib/coop_16.wgsl, WORKGROUP.

@group(0) @binding(0) var<storage, read_write> y: array<f32>;  // [column, row]

const PITCH = 40u;

var<workgroup> a: array<f16, EDGE * PITCH>;      // [row, k]
var<workgroup> b: array<f16, EDGE * PITCH>;      // [column, k]
var<workgroup> sums: array<f32, EDGE * EDGE>;    // [column, row]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < EDGE * EDGE; i += WORKGROUP) {
        let at = (i / EDGE) * PITCH + i % EDGE;
        a[at] = f16(32.0 * (f32((i * 7u + i / EDGE) % 13u) - 6.0) + 1.0);
        b[at] = f16(16.0 * (f32((i * 5u + 3u * (i / EDGE)) % 11u) - 5.0) + 3.0);
    }
    workgroupBarrier();
    // Every subgroup computes the same: in part of them control flow would not be uniform.
    var c: Sums;
    c = coopMultiplyAdd(coopLoadT<Rows>(&a[0], PITCH), coopLoad<Cols>(&b[0], PITCH), c);
    c = coopMultiplyAdd(coopLoadT<Rows>(&a[0], PITCH), coopLoad<Cols>(&b[0], PITCH), c);
    coopStore(c, &sums[0], EDGE);
    workgroupBarrier();
    for (var i = lane; i < EDGE * EDGE; i += WORKGROUP) {
        y[i] = sums[i];
    }
}
