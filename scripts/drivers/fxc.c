// Microsoft's FXC over HLSL files of shader model 5.1, with wgpu's flags: `pass NAME: TIME ms` or `FAIL NAME: message` for each. Built with
// mingw-w64, run by Wine next to d3dcompiler_47.dll (WINEDLLOVERRIDES=d3dcompiler_47=n).   fxc.exe [-Od] SHADER...
//
// -Od: unoptimized, as wgpu compiles in debug builds of a program. A shader fails, too, where FXC reads a component of a vector by a dot
// product (below), and where it takes longer than LIMIT, which ends the program: a thread inside the compiler cannot be stopped.
#define COBJMACROS
#include <windows.h>
#include "files.h"

enum { LIMIT = 300, DEBUG = 1 << 0, SKIP_OPTIMIZATION = 1 << 2, ENABLE_STRICTNESS = 1 << 11 };

// d3dcompiler.h's functions and the only object that they return, as mingw-w64's header wants the library when it is linked.
typedef struct Blob { const struct BlobTable *table; } Blob;
struct BlobTable {
    void *query, *add;
    ULONG (WINAPI *release)(Blob *);
    void *(WINAPI *pointer)(Blob *);
    SIZE_T (WINAPI *size)(Blob *);
};
static HRESULT (WINAPI *compile)(const void *, SIZE_T, LPCSTR, const void *, void *, LPCSTR, LPCSTR, UINT, UINT, Blob **, Blob **);
static HRESULT (WINAPI *disassemble)(const void *, SIZE_T, UINT, LPCSTR, Blob **);
static UINT flags = ENABLE_STRICTNESS;

// How many values are taken out of vectors by dot products with rows of the unit matrix, which FXC keeps among the constants (`icb`): its way
// to index by a variable. -0 becomes 0, and NaN spreads.
static int dot_products(Blob *code) {
    Blob *listing;
    if (FAILED(disassemble(code->table->pointer(code), code->table->size(code), 0, "", &listing))) return -1;
    int count = 0;
    for (char *line = strtok(listing->table->pointer(listing), "\n"); line; line = strtok(NULL, "\n")) {
        line += strspn(line, " ");
        if (line[0] == 'd' && line[1] == 'p' && strstr(line, "icb[")) count++;
    }
    listing->table->release(listing);
    return count;
}

// Milliseconds that this thread kept a processor busy.
static unsigned long long busy(void) {
    ULONGLONG created, ended, kernel, user;
    GetThreadTimes(GetCurrentThread(), (FILETIME *)&created, (FILETIME *)&ended, (FILETIME *)&kernel, (FILETIME *)&user);
    return (kernel + user) / 10000;
}

static DWORD WINAPI one(void *path) {
    const char *name = base_name(path);
    size_t size;
    char *text = read_file(path, &size);
    Blob *code = NULL, *errors = NULL;
    unsigned long long begin = busy();
    int dots;
    if (!text) {
        printf("FAIL %s: cannot be read\n", name);
    } else if (FAILED(compile(text, size, name, NULL, NULL, "main", "cs_5_1", flags, 0, &code, &errors))) {
        printf("FAIL %s: ", name);
        print_line(errors ? errors->table->pointer(errors) : "no message");
    } else if ((dots = dot_products(code)) != 0) {
        printf("FAIL %s: %d components of vectors are read by dot products\n", name, dots);
    } else {
        printf("pass %s: %llu ms\n", name, busy() - begin);
    }
    fflush(stdout);
    if (code) code->table->release(code);
    if (errors) errors->table->release(errors);
    free(text);
    return 0;
}

int main(int argc, char **argv) {
    HMODULE dll = LoadLibraryA("d3dcompiler_47.dll");
    compile = dll ? (void *)GetProcAddress(dll, "D3DCompile") : NULL;
    disassemble = dll ? (void *)GetProcAddress(dll, "D3DDisassemble") : NULL;
    if (!compile || !disassemble) {
        fprintf(stderr, "d3dcompiler_47.dll cannot be loaded\n");
        return 2;
    }
    int i = 1;
    if (argc > 1 && !strcmp(argv[1], "-Od")) flags |= DEBUG | SKIP_OPTIMIZATION, i++;
    for (; i < argc; i++) {
        // FXC needs a deep stack.
        HANDLE thread = CreateThread(NULL, 64 << 20, one, argv[i], 0, NULL);
        if (WaitForSingleObject(thread, LIMIT * 1000) == WAIT_TIMEOUT) {
            printf("FAIL %s: not compiled in %d s\n", base_name(argv[i]), LIMIT);
            fflush(stdout);
            ExitProcess(1);
        }
        CloseHandle(thread);
    }
    return 0;
}
