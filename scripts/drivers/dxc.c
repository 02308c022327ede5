// Microsoft's DXC over HLSL files: `pass NAME` or `FAIL NAME: message` for each. Built with mingw-w64, run by Wine next to
// dxcompiler.dll.   dxc.exe SHADER.hlsl...
#define COBJMACROS
#include <windows.h>
#include "files.h"

// Just enough of dxcapi.h, which mingw-w64 does not have: the functions that are called stand at their places in the tables.
static const GUID CLSID_Compiler = {0x73e22d93, 0xe6ce, 0x47f3, {0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0}};
static const GUID IID_Compiler3 = {0x228b4687, 0x5a6a, 0x4730, {0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54}};
static const GUID IID_Result = {0x58346cda, 0xdde7, 0x4497, {0x94, 0x61, 0x6f, 0x87, 0xaf, 0x5e, 0x06, 0x59}};
static const GUID IID_Utf8 = {0x3da636c9, 0xba71, 0x4024, {0xa3, 0x01, 0x30, 0xcb, 0xf1, 0x25, 0x30, 0x5b}};
enum { ERRORS = 2, UTF8 = 65001 };

typedef struct { const void *ptr; SIZE_T size; UINT encoding; } Buffer;
typedef struct Compiler { const struct CompilerTable *table; } Compiler;
struct CompilerTable {
    void *query, *add;
    ULONG (WINAPI *release)(Compiler *);
    HRESULT (WINAPI *compile)(Compiler *, const Buffer *, LPCWSTR *, UINT32, void *, REFIID, void **);
};
typedef struct Result { const struct ResultTable *table; } Result;
struct ResultTable {
    void *query, *add;
    ULONG (WINAPI *release)(Result *);
    HRESULT (WINAPI *status)(Result *, HRESULT *);
    void *result, *error_buffer, *has_output;
    HRESULT (WINAPI *output)(Result *, int, REFIID, void **, void *);
};
typedef struct Text { const struct TextTable *table; } Text;
struct TextTable {
    void *query, *add;
    ULONG (WINAPI *release)(Text *);
    void *pointer, *size, *encoding;
    const char *(WINAPI *string)(Text *);
};

int main(int argc, char **argv) {
    HMODULE dll = LoadLibraryA("dxcompiler.dll");
    HRESULT (WINAPI *create)(REFIID, REFIID, void **) = dll ? (void *)GetProcAddress(dll, "DxcCreateInstance") : NULL;
    Compiler *compiler;
    if (!create || FAILED(create(&CLSID_Compiler, &IID_Compiler3, (void **)&compiler))) {
        fprintf(stderr, "dxcompiler.dll cannot be loaded\n");
        return 2;
    }
    LPCWSTR arguments[] = {L"-E", L"main", L"-T", L"cs_6_6", L"-enable-16bit-types", L"-HV", L"2018", L"-Wno-parentheses-equality"};
    for (int i = 1; i < argc; i++) {
        const char *name = base_name(argv[i]);
        Buffer source = {0};
        source.encoding = UTF8;
        size_t size = 0;
        source.ptr = read_file(argv[i], &size);
        source.size = size;
        Result *result = NULL;
        HRESULT status = E_FAIL;
        if (source.ptr && SUCCEEDED(compiler->table->compile(compiler, &source, arguments, 8, NULL, &IID_Result, (void **)&result)))
            result->table->status(result, &status);
        if (SUCCEEDED(status)) {
            printf("pass %s\n", name);
        } else {
            Text *errors = NULL;
            if (result) result->table->output(result, ERRORS, &IID_Utf8, (void **)&errors, NULL);
            printf("FAIL %s: ", name);
            print_line(errors ? errors->table->string(errors) : "cannot be read or compiled");
        }
        if (result) result->table->release(result);
        free((void *)source.ptr);
        fflush(stdout);
    }
    return 0;
}
