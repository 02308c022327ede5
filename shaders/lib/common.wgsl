// What every kernel may use.

// Index of this workgroup in the folded grid.
fn group_index(id: vec3<u32>, grid: vec3<u32>) -> u32 {
    return id.x + id.y * grid.x;
}

// v[i]. No shader indexes a vector by a variable: FXC, DirectX's older compiler, makes a dot
// product of a read, which loses the sign of -0 and makes NaN of the neighbours of what is not
// finite, and refuses a write in a loop. A test enforces it.
fn component(v: vec4<u32>, i: u32) -> u32 {
    return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i >= 2u);
}
