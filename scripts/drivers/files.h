// What the drivers of Microsoft's compilers have in common.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// All bytes of a file; NULL if it cannot be read.
static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *size = ftell(file);
    rewind(file);
    char *text = malloc(*size + 1);
    *size = fread(text, 1, *size, file);
    fclose(file);
    return text;
}

// A path behind its folders.
static const char *base_name(const char *path) {
    const char *name = strrchr(path, '/');
    return name ? name + 1 : path;
}

// A message in one line.
static void print_line(const char *text) {
    for (; *text; text++) putchar(*text == '\n' || *text == '\r' ? ' ' : *text);
    putchar('\n');
}
