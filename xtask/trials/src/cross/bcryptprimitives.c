/* The one function of Windows' bcryptprimitives.dll that Rust's standard library imports, for a Wine
 * that is older than the library (it came with 9.x). RtlGenRandom is there under its old name.
 * https://learn.microsoft.com/en-us/windows/win32/seccng/processprng */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length) {
    return SystemFunction036(buffer, (ULONG)length);
}
