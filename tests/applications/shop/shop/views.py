import hashlib

from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.views.decorators.csrf import csrf_exempt


def front(request):
    visits = request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"<p>visit {visits}" + " and so on" * 100)


@csrf_exempt
def upload(request):
    if request.method != "POST":
        return redirect("/")
    files = {name: hashlib.sha256(b"".join(one.chunks())).hexdigest() for name, one in request.FILES.items()}
    return JsonResponse({"files": files, "fields": request.POST.dict()})


def stream(request):
    return StreamingHttpResponse(f"line {number}\n" for number in range(1000))


def file(request):
    return FileResponse(open(__file__, "rb"), as_attachment=True, filename="views.py")


def fail(request):
    raise RuntimeError("a view that fails")


def where(request, name):
    return JsonResponse(
        {
            "name": name,
            "uri": request.build_absolute_uri(),
            "query": request.GET.dict(),
            "secure": request.is_secure(),
            "method": request.method,
            "body": request.body.decode(),
        }
    )
