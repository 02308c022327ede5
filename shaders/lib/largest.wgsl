// The largest of the numbers that the lanes of a workgroup have, for each of them. It waits for
// all.
// Needs: WORKGROUP.

var<workgroup> tops: array<u32, WORKGROUP>;

fn largest(lane: u32, mine: u32) -> u32 {
    tops[lane] = mine;
    workgroupBarrier();
    var top = mine;
    for (var i = 0u; i < WORKGROUP; i++) {
        top = max(top, tops[i]);
    }
    return top;
}
