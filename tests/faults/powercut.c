/*
 * Loaded into a server with LD_PRELOAD: writes down how much of each file is on disk for certain.
 *
 * What a power cut takes is what was written after a file's last fsync. So after each fsync that succeeded, a line with the
 * file's device, inode and size, as it was before that fsync, goes to the file that PICKGUARD_SYNCED names; whoever kills the
 * server can then take the rest away. What was not synced is a file's end, since a server's log is only ever appended to.
 *
 * The line is there before fsync returns, thus before the server can acknowledge anything that relies on it. A file that is
 * removed or replaced counts as 0 from then on: its inode may come back as that of another one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(const struct stat *file, long long size)
{
    const char *path = getenv("PICKGUARD_SYNCED");
    char line[128];
    int length = snprintf(line, sizeof line, "%llu %llu %lld\n", (unsigned long long)file->st_dev,
                          (unsigned long long)file->st_ino, size);
    int journal = path == NULL ? -1 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    /* A power cut whose bookkeeping fails would prove nothing. */
    if (journal < 0 || write(journal, line, (size_t)length) != length)
        abort();
    close(journal);
}

/* Says that it is there, also where nothing is synced for a while: file 0 of device 0, which no file is. */
__attribute__((constructor)) static void loaded(void)
{
    struct stat none = {0};

    note(&none, 0);
}

static int synced(int (*sync)(int), int fd)
{
    struct stat before;
    int is_file = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    int result = sync(fd);

    if (result == 0 && is_file)
        note(&before, before.st_size);
    return result;
}

static void gone(const char *path)
{
    struct stat file;

    if (lstat(path, &file) == 0 && S_ISREG(file.st_mode))
        note(&file, 0);
}

int fsync(int fd)
{
    return synced((int (*)(int))dlsym(RTLD_NEXT, "fsync"), fd);
}

int fdatasync(int fd)
{
    return synced((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"), fd);
}

int unlink(const char *path)
{
    gone(path);
    return ((int (*)(const char *))dlsym(RTLD_NEXT, "unlink"))(path);
}

int rename(const char *from, const char *to)
{
    gone(to);
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}
