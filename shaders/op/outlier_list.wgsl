// outlier_list:   list = the numbers of the bits that are set in mask, in order, and how many they
// are
//
// One workgroup: each lane counts the bits of a run of words, then knows where its numbers go.
// Needs: WORKGROUP.

struct Params {
    chunk_end: u32, // chunks of the mask
    list: u32,      // word of y where the count is
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<u32>;  // [chunks] mask; at params.list: count, 0, 0, 0, then the list

var<workgroup> counts: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
    let run = (params.chunk_end + WORKGROUP - 1u) / WORKGROUP;
    let begin = min(lane * run, params.chunk_end);
    let end = min(begin + run, params.chunk_end);
    var count = 0u;
    for (var chunk = begin; chunk < end; chunk++) {
        count += countOneBits(y[chunk]);
    }
    counts[lane] = count;
    workgroupBarrier();
    var total = 0u;
    var mine = 0u;
    for (var i = 0u; i < WORKGROUP; i++) {
        total += counts[i];
        mine += select(0u, counts[i], i < lane);
    }
    let list = params.list + 4u;
    for (var chunk = begin; chunk < end; chunk++) {
        var bits = y[chunk];
        while (bits != 0u) {
            y[list + mine] = chunk * 32u + firstTrailingBit(bits);
            mine += 1u;
            bits &= bits - 1u;
        }
    }
    // What fills up the last chunk of the list is multiplied by zero.
    if (lane < (32u - total % 32u) % 32u) {
        y[list + total + lane] = 0u;
    }
    if (lane == 0u) {
        y[params.list] = total;
    }
}
