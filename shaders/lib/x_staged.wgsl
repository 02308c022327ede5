// Activations of a pass by way of workgroup memory: neighbouring lanes fetch neighbouring words,
// and each takes its chunk out again, 9 vec4 apart so that neighbours hit different banks. Taken
// directly they lie 128 bytes apart, and each load of a subgroup touches as many cache lines as it
// has lanes. All loads come before the barrier, without a branch between them.
// Needs: WORKGROUP, K_LANES >= WORKGROUP / 8, COLS.

const PITCH = 9u;
const COLUMN_LOADS = K_LANES * 8u / WORKGROUP;  // of a lane
const LOADS = COLS * COLUMN_LOADS;

var<workgroup> x_tile: array<vec4<f32>, COLS * K_LANES * PITCH>;

// Fetches the chunks of all lanes, from chunk `first` on.
fn x_stage(starts: array<u32, COLS>, first: u32, lane: u32, is_whole: bool) {
    let last = 8u * params.chunk_end - 1u;
    let to = (lane >> 3u) * PITCH + (lane & 7u);
    let i = 8u * first + lane;
    var v: array<vec4<f32>, LOADS>;
    for (var j = 0u; j < LOADS; j++) {
        let at = i + j % COLUMN_LOADS * WORKGROUP;
        v[j] = x_quad(starts[j / COLUMN_LOADS], select(min(at, last), at, is_whole));
    }
    workgroupBarrier();
    for (var j = 0u; j < LOADS; j++) {
        x_tile[to + (j / COLUMN_LOADS * K_LANES + j % COLUMN_LOADS * (WORKGROUP / 8u)) * PITCH] = v[j];
    }
    workgroupBarrier();
}

// Features 4 i .. 4 i + 4 of the chunk that lane `along` of those along k takes.
fn x_take(starts: array<u32, COLS>, c: u32, chunk: u32, along: u32, i: u32) -> vec4<f32> {
    return x_tile[(c * K_LANES + along) * PITCH + i];
}
