/* The kernel's own price of a rootless container: what no runtime can go below. scripts/bench times it beside the
 * runtimes. It makes all namespaces, maps ids with newuidmap and newgidmap (both at once), mounts overlay (userxattr)
 * and the standard file systems, hides and write-protects the paths of /proc and /sys that docker does, pivots, runs a
 * static `true` from the image, and waits. Nothing else: no image store, no record, no log, no seccomp, no error
 * messages worth the name.
 *
 * usage: floor LOWER UPPER WORK MERGED SUBUID-START SUBGID-START
 *
 * cc -O2 -static -o floor floor.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(call) do { if ((call) < 0) { perror(#call); _exit(125); } } while (0)

static void map(const char *program, pid_t child, unsigned own, const char *sub, pid_t *helper)
{
	static char words[2][3][24];
	char(*w)[24] = words[program[3] == 'g'];
	snprintf(w[0], 24, "%d", child);
	snprintf(w[1], 24, "%u", own);
	snprintf(w[2], 24, "%s", sub);
	char *argv[] = {(char *)program, w[0], "0", w[1], "1", "1", w[2], "65535", NULL};
	if ((errno = posix_spawnp(helper, program, NULL, NULL, argv, environ))) {
		perror(program);
		kill(child, SIGKILL);
		exit(125);
	}
}

static void device(const char *name)
{
	char from[64], to[64];
	snprintf(from, sizeof from, "/dev/%s", name);
	snprintf(to, sizeof to, "dev/%s", name);
	int fd = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
	CHECK(fd);
	close(fd);
	CHECK(mount(from, to, NULL, MS_BIND, NULL));
}

/* A file is covered by /dev/null, a directory by an empty file system; what isn't there needs no mask. */
static void hide(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return;
	if (S_ISDIR(st.st_mode))
		CHECK(mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k"));
	else
		CHECK(mount("/dev/null", path, NULL, MS_BIND, NULL));
}

static void protect(const char *path)
{
	if (access(path, F_OK) < 0)
		return;
	CHECK(mount(path, path, NULL, MS_BIND | MS_REC, NULL));
	CHECK(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
}

static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty", NULL};
static const char *const hidden[] = {"proc/acpi", "proc/asound", "proc/interrupts", "proc/kcore", "proc/keys",
	"proc/latency_stats", "proc/sched_debug", "proc/scsi", "proc/timer_list", "proc/timer_stats",
	"sys/devices/virtual/powercap", "sys/firmware", NULL};
static const char *const read_only[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger", NULL};

static void inside(char **dirs, int go)
{
	char byte, options[4096];
	while (read(go, &byte, 1) < 0 && errno == EINTR)
		;
	CHECK(setresgid(0, 0, 0));
	CHECK(setresuid(0, 0, 0));
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,userxattr", dirs[0], dirs[1], dirs[2]);
	CHECK(mount("overlay", dirs[3], "overlay", 0, options));
	CHECK(chdir(dirs[3]));
	CHECK(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	CHECK(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL));
	CHECK(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	CHECK(mkdir("dev/pts", 0755));
	CHECK(mkdir("dev/shm", 0755));
	CHECK(mkdir("dev/mqueue", 0755));
	CHECK(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"));
	CHECK(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k"));
	CHECK(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	for (const char *const *name = devices; *name; name++)
		device(*name);
	CHECK(symlink("/proc/self/fd", "dev/fd"));
	CHECK(symlink("pts/ptmx", "dev/ptmx"));
	for (const char *const *path = read_only; *path; path++)
		protect(*path);
	for (const char *const *path = hidden; *path; path++)
		hide(*path);
	CHECK(syscall(SYS_pivot_root, ".", "."));
	CHECK(umount2(".", MNT_DETACH));
	CHECK(chdir("/"));
	CHECK(sethostname("floor", 5));
	execl("/bin/true", "true", NULL);
	perror("exec");
	_exit(127);
}

int main(int argc, char **argv)
{
	int go[2], status;
	pid_t child, helper[2];
	if (argc != 7) {
		fprintf(stderr, "usage: floor LOWER UPPER WORK MERGED SUBUID-START SUBGID-START\n");
		return 2;
	}
	CHECK(pipe2(go, O_CLOEXEC));
	child = syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
			CLONE_NEWNET | CLONE_NEWCGROUP, NULL, NULL, NULL, NULL);
	CHECK(child);
	if (child == 0)
		inside(argv + 1, go[0]);
	map("newuidmap", child, geteuid(), argv[5], &helper[0]);
	map("newgidmap", child, getegid(), argv[6], &helper[1]);
	for (int i = 0; i < 2; i++) {
		CHECK(waitpid(helper[i], &status, 0));
		if (status) {
			kill(child, SIGKILL);
			return 125;
		}
	}
	CHECK(write(go[1], "", 1));
	CHECK(waitpid(child, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
